"""The types of a chat, of the predictions for it and of their explanation.

Training and serving share the chat: training reads its data sets into the same `Chat` that `/predict` validates, so
both agree on who spoke, in which order, and what an empty text means (a message without words, which still counts as a
turn).
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, GetPydanticSchema, WithJsonSchema, field_validator
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

LONGEST_NAME = 128  # characters of an identifier

# Strict members: "1" stays a string and 1 an integer; true and 1.0 are not identifiers. The schema uses oneOf because
# BentoML's OpenAPI keeps only the first member of an anyOf.
Identifier = Annotated[
    Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
    | Annotated[str, Field(strict=True, max_length=LONGEST_NAME)],
    GetPydanticSchema(
        lambda kind, schema_of: {
            **schema_of(kind),
            "custom_error_type": "identifier",  # one error for the field, not one for each member
            "custom_error_message": "Input should be an integer of 64 bits or a string of at most"
            f" {LONGEST_NAME} characters",
        }
    ),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
                {"type": "string", "maxLength": LONGEST_NAME},
            ],
            "example": 0,
        }
    ),
]
SaidText = Annotated[str, Field(max_length=8_000)]
MAX_MESSAGES = 2_000  # in a chat or dialog
MAX_EXPLAINED = 64  # participants in a chat to explain
Confidence = Literal["high", "medium", "low"]

EXAMPLE_CHAT: JsonDict = {
    "chat_id": 42,
    "messages": [
        {"message_id": 0, "text": "How about the money?", "participant_id": 0},
        {"message_id": 1, "text": "Who are you calling?", "participant_id": 1},
    ],
}

EXAMPLE_SIGNAL: JsonDict = {
    "name": "commas",
    "meaning": {"en": "commas", "ru": "запятые"},
    "than_usual": "more",
    "weight": 0.42,
}


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(hide_input_in_errors=True)

    message_id: Identifier = Field(description="Identifier of the message, integer or string.")
    text: SaidText = Field(description="What was said; may be empty.")
    participant_id: Identifier = Field(description="Who said it, integer or string.")


class Chat(BaseModel):
    """One chat, with its messages in chronological order."""

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra={"example": EXAMPLE_CHAT})

    chat_id: Identifier = Field(description="Identifier of the chat, echoed in the answer.")
    # fail fast: naming every error in a megabyte of invalid messages took seconds
    messages: Annotated[list[Message], FailFast()] = Field(
        min_length=1, max_length=MAX_MESSAGES, description="Messages in chronological order, at least one."
    )
    finished: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="Whether this is a complete recording of the game. Only then does it matter who wrote last.",
    )

    @field_validator("messages")
    @classmethod
    def _differ(cls, messages: list[Message]) -> list[Message]:
        if len({message.message_id for message in messages}) < len(messages):
            raise PydanticCustomError("not_unique", "Every message_id should be unique")
        return messages


class ChatToExplain(Chat):
    """One chat to explain. An explanation takes two scores for each signal of each participant."""

    model_config = ConfigDict(from_attributes=True)  # any `Chat` is validated as one

    @field_validator("messages")
    @classmethod
    def _are_few(cls, messages: list[Message]) -> list[Message]:
        if len({message.participant_id for message in messages}) > MAX_EXPLAINED:
            raise PydanticCustomError("too_many", "At most {most} participants are explained", {"most": MAX_EXPLAINED})
        return messages


class Participant(BaseModel):
    """The answer for one participant of a chat."""

    participant_id: Identifier = Field(description="As given in the chat.")
    is_bot_probability: float = Field(ge=0, le=1, description="Probability that this participant is a bot.")
    confidence: Confidence = Field(description="How reliable the answer is.")


class Prediction(BaseModel):
    """The answer for one chat, participants in the order of their first message."""

    chat_id: Identifier = Field(description="As given in the chat.")
    participants: list[Participant] = Field(description="Participants in the order of their first message.")
    model_version: str = Field(description="Version of the classifier that answered.")


class Words(BaseModel):
    """What a signal looks at, in words for people."""

    en: str = Field(description="In English.")
    ru: str = Field(description="In Russian.")


class Signal(BaseModel):
    """A signal of a participant that moved the score."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE_SIGNAL})

    name: str = Field(description="Name of the signal, for programs.")
    meaning: Words = Field(description="What it looks at, in words for people; not which way it points.")
    than_usual: Literal["more", "less"] = Field(description="How it compares with a typical participant's.")
    weight: float = Field(description="Log odds; positive for bot, negative for human.")


class Span(BaseModel):
    """A word or two neighbouring words of a message, and how much they weigh."""

    message_id: Identifier = Field(description="The message, as given in the chat.")
    start: int = Field(ge=0, description="Index of the first character in the message's text.")
    end: int = Field(ge=0, description="Index after the last character.")
    signal: str = Field(description="The signal that these words contribute to.")
    weight: float = Field(description="Exact share in that signal's value, in log odds of a linear model.")


class ExplainedParticipant(Participant):
    """The answer for one participant and its explanation: `base` + all `signals` + `rest` = `score`."""

    base: float = Field(description="Score, in log odds, of a participant with typical signals.")
    signals: list[Signal] = Field(description="The strongest signals, in descending order; approximate.")
    rest: float = Field(description="All other signals, and the interaction of all of them.")
    score: float = Field(description="Log odds, before the participants are compared.")
    spans: list[Span] = Field(description="The words that weigh most, in descending order.")


class Explanation(BaseModel):
    """The explanation of the answers for one chat."""

    chat_id: Identifier = Field(description="As given in the chat.")
    participants: list[ExplainedParticipant] = Field(description="Participants in the order of their first message.")
    expected_bot_share: float = Field(ge=0, le=1, description="Share of bots that the probabilities assume.")
    method: str = Field(description="How the weights are computed, and which of them are approximate.")
    model_version: str = Field(description="Version of the classifier that answered.")
