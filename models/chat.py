"""The wire types: what comes in and what goes out, in one place.

A chat is the shared unit of training and serving: training reads its data sets into the same `Chat` that `/predict`
validates, so both see who spoke, in which order, and what an empty text means (a message that was sent and says
nothing: it counts as a turn and adds no words).
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, WithJsonSchema
from pydantic.config import JsonDict

# Strict members: "1" stays a string and 1 an integer, and neither true nor 1.0 passes for an identifier. The schema
# says oneOf because BentoML's OpenAPI keeps only the first member of an anyOf.
Identifier = Annotated[
    Annotated[int, Field(strict=True)] | Annotated[str, Field(strict=True)],
    WithJsonSchema({"oneOf": [{"type": "integer"}, {"type": "string"}]}),
]

Confidence = Literal["high", "medium", "low"]

EXAMPLE_CHAT: JsonDict = {
    "chat_id": 42,
    "messages": [
        {"message_id": 0, "text": "How about the money?", "participant_id": 0},
        {"message_id": 1, "text": "Who are you calling?", "participant_id": 1},
    ],
}


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(hide_input_in_errors=True)

    message_id: Identifier = Field(description="Identifier of the message, integer or string.", examples=[0])
    text: str = Field(description="What was said; may be empty.", examples=["How about the money?"])
    participant_id: Identifier = Field(description="Who said it, integer or string.", examples=[0])


class Chat(BaseModel):
    """One chat, its messages in the order of the talk."""

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra={"example": EXAMPLE_CHAT})

    chat_id: Identifier = Field(description="Identifier of the chat, echoed in the answer.", examples=[42])
    messages: list[Message] = Field(min_length=1, description="Messages in the order of the talk, at least one.")


class Chats(BaseModel):
    """Many chats to score in one request."""

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra={"example": {"chats": [EXAMPLE_CHAT]}})

    chats: list[Chat] = Field(min_length=1, description="Chats to score, at least one.")


class ChatList(RootModel[list[Chat]]):
    """The same as a bare list, the form in which BentoML's batching joins requests."""

    model_config = ConfigDict(hide_input_in_errors=True, json_schema_extra={"example": [EXAMPLE_CHAT]})


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


class Predictions(BaseModel):
    """The answers for many chats, in the order of the request."""

    predictions: list[Prediction] = Field(description="One prediction for each chat, in the order of the request.")


class Signal(BaseModel):
    """One thing about a participant that moved the score."""

    name: str = Field(description='What it is, such as "opens the chat".')
    weight: float = Field(description="Log odds; above 0 toward bot, below 0 toward human.")


class Span(BaseModel):
    """A word or two neighbouring words of a message, and what they say by themselves."""

    message_id: Identifier = Field(description="The message, as given in the chat.")
    start: int = Field(ge=0, description="Index of the first character in the message's text.")
    end: int = Field(ge=0, description="Index after the last character.")
    signal: str = Field(description="The signal that these words are part of.")
    weight: float = Field(description="Share in that signal's value, log odds of the linear model; exact.")


class ExplainedParticipant(Participant):
    """The answer for one participant, and what moved it: `base` + all `signals` + `rest` = `score`."""

    base: float = Field(description="Score, in log odds, of a participant with typical signals.")
    signals: list[Signal] = Field(description="The strongest signals, the strongest first; approximate.")
    rest: float = Field(description="All other signals, and the interplay of all of them.")
    score: float = Field(description="Log odds before the participants are scored together and rare chats held back.")
    spans: list[Span] = Field(description="The words that weigh most in what was said, the heaviest first.")


class Explanation(BaseModel):
    """What moved the answers for one chat."""

    chat_id: Identifier = Field(description="As given in the chat.")
    participants: list[ExplainedParticipant] = Field(description="Participants in the order of their first message.")
    method: str = Field(description="How the weights are found and what is approximate about them.")
    model_version: str = Field(description="Version of the classifier that answered.")
