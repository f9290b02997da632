"""The types of a chat: request and response bodies, and the dialog that messages add up to.

Training and serving share the chat: training reads its data sets into the same `Chat` that `/predict` validates, so
both agree on who spoke, in which order, and what an empty text means (a message without words, which still counts as a
turn).
"""

from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    GetPydanticSchema,
    RootModel,
    Tag,
    WithJsonSchema,
    field_validator,
)
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


def _reject_nul(text: str) -> str:
    """Reject a character that PostgreSQL cannot store."""
    if "\x00" in text:
        raise PydanticCustomError("nul", "Must not contain the character NUL")
    return text


StoredText = Annotated[SaidText, AfterValidator(_reject_nul)]
StoredName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_reject_nul)]
MAX_MESSAGES = 2_000  # in a chat or dialog
MAX_CHATS = 256  # in a request to /predict_batch
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

EXAMPLE_MESSAGE: JsonDict = {
    "text": "Hi, how are you?",
    "dialog_id": "0f2d4682-d939-4af6-beb9-880a5da202a2",
    "id": "13ab658b-8463-4410-a747-33ea2dfb7b68",
    "participant_index": 0,
}


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(hide_input_in_errors=True)

    message_id: Identifier = Field(description="Identifier of the message, integer or string.", examples=[0])
    text: SaidText = Field(description="What was said; may be empty.", examples=["How about the money?"])
    participant_id: Identifier = Field(description="Who said it, integer or string.", examples=[0])


class Chat(BaseModel):
    """One chat, with its messages in chronological order."""

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra={"example": EXAMPLE_CHAT})

    chat_id: Identifier = Field(description="Identifier of the chat, echoed in the answer.", examples=[42])
    # fail fast: naming every error in a megabyte of invalid messages took seconds
    messages: Annotated[list[Message], FailFast()] = Field(
        min_length=1, max_length=MAX_MESSAGES, description="Messages in chronological order, at least one."
    )
    finished: Annotated[bool, Field(strict=True)] = Field(
        default=False,
        description="Whether this is a complete recording of a You are Bot game. Only there does the last word tell"
        " something.",
    )

    @field_validator("messages")
    @classmethod
    def _differ(cls, messages: list[Message]) -> list[Message]:
        if len({message.message_id for message in messages}) < len(messages):
            raise PydanticCustomError("not_unique", "Every message_id should be unique")
        return messages


class ChatToExplain(Chat):
    """One chat to explain, which takes two scores for each signal of each participant."""

    @field_validator("messages")
    @classmethod
    def _are_few(cls, messages: list[Message]) -> list[Message]:
        if len({message.participant_id for message in messages}) > MAX_EXPLAINED:
            raise PydanticCustomError("too_many", "At most {most} participants are explained", {"most": MAX_EXPLAINED})
        return messages


class Chats(BaseModel):
    """Many chats to score in one request."""

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra={"example": {"chats": [EXAMPLE_CHAT]}})

    chats: Annotated[list[Chat], FailFast()] = Field(
        min_length=1, max_length=MAX_CHATS, description="Chats to score, at least one."
    )


class PlatformMessage(BaseModel):
    """One message of a dialog, as the You are Bot platform sends it."""

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra={"example": EXAMPLE_MESSAGE})

    text: StoredText = Field(description="What was said; may be empty.")
    dialog_id: StoredName = Field(description="The dialog that the message belongs to.")
    id: StoredName = Field(description="Identifier of the message; the same one again is a retry.")
    participant_index: int = Field(strict=True, ge=-(2**31), le=2**31 - 1, description="Who said it.")


class Participant(BaseModel):
    """The answer for one participant of a chat."""

    participant_id: Identifier = Field(description="As given in the chat.")
    is_bot_probability: float = Field(ge=0, le=1, description="Probability that this participant is a bot.")
    confidence: Confidence = Field(description="How sure the answer is; the README says how often each is right.")


class Prediction(BaseModel):
    """The answer for one chat, participants in the order of their first message."""

    chat_id: Identifier = Field(description="As given in the chat.")
    participants: list[Participant] = Field(description="Participants in the order of their first message.")
    model_version: str = Field(description="Version of the classifier that answered.")


class MessageAnswer(BaseModel):
    """The answer for one message of a dialog."""

    id: str = Field(description="Identifier of this answer, a new UUID.")
    message_id: str = Field(description="The message, as given.")
    dialog_id: str = Field(description="The dialog, as given.")
    participant_index: int = Field(description="Who said it, as given.")
    is_bot_probability: float = Field(
        ge=0, le=1, description="Probability that this participant is a bot, given all messages of the dialog so far."
    )

    @classmethod
    def to(cls, message: PlatformMessage, prediction: Prediction) -> "MessageAnswer":
        """Return the answer to a message: what the prediction for its dialog so far says about its sender."""
        (probability,) = (
            participant.is_bot_probability
            for participant in prediction.participants
            if participant.participant_id == message.participant_index
        )
        return cls.model_construct(
            id=str(uuid4()),
            message_id=message.id,
            dialog_id=message.dialog_id,
            participant_index=message.participant_index,
            is_bot_probability=probability,
        )


CHAT, MESSAGE = "chat", "message"  # tags, which pydantic puts in front of the field in an error


def _shape(body: Any) -> str | None:
    """Distinguish a chat (or its prediction) from a message (or its answer) by the fields that only one of them has."""
    if isinstance(body, Chat | Prediction):
        return CHAT
    if isinstance(body, PlatformMessage | MessageAnswer):
        return MESSAGE
    if not isinstance(body, dict):
        return None
    if {"messages", "chat_id", "participants"} & body.keys():
        return CHAT
    return MESSAGE if {"text", "dialog_id", "id", "participant_index"} & body.keys() else None


_BY_SHAPE = Discriminator(
    _shape,
    custom_error_type="neither_shape",
    custom_error_message="Send a chat (chat_id, messages) or one message of a dialog (text, dialog_id, id,"
    " participant_index)",
)


class ChatOrMessage(
    RootModel[Annotated[Annotated[Chat, Tag(CHAT)] | Annotated[PlatformMessage, Tag(MESSAGE)], _BY_SHAPE]]
):
    """The request body of `/predict`: a chat, or one message of a dialog that the service stores."""

    model_config = ConfigDict(hide_input_in_errors=True)


class Answer(
    RootModel[Annotated[Annotated[Prediction, Tag(CHAT)] | Annotated[MessageAnswer, Tag(MESSAGE)], _BY_SHAPE]]
):
    """The response body of `/predict`: a prediction for a chat, or for a message."""


class Predictions(BaseModel):
    """The answers for many chats, in the order of the request."""

    predictions: list[Prediction] = Field(description="One prediction for each chat, in the order of the request.")


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
    score: float = Field(
        description="Log odds before the participants are compared and the expected share of bots is applied."
    )
    spans: list[Span] = Field(description="The words that weigh most, in descending order.")


class Explanation(BaseModel):
    """The explanation of the answers for one chat."""

    chat_id: Identifier = Field(description="As given in the chat.")
    participants: list[ExplainedParticipant] = Field(description="Participants in the order of their first message.")
    expected_bot_share: float = Field(
        ge=0, le=1, description="Share of bots among the participants that the probabilities assume."
    )
    method: str = Field(description="How the weights are computed, and which of them are approximate.")
    model_version: str = Field(description="Version of the classifier that answered.")
