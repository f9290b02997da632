"""The bodies of requests and responses beyond a chat and its prediction (`models/chat.py`)."""

from collections.abc import Set
from typing import Annotated, Any
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, FailFast, Field, RootModel, Tag
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from models.chat import EXAMPLE_CHAT, LONGEST_NAME, Chat, Prediction, SaidText

MAX_CHATS = 256  # in a request to /predict_batch

EXAMPLE_MESSAGE: JsonDict = {
    "text": "Hi, how are you?",
    "dialog_id": "0f2d4682-d939-4af6-beb9-880a5da202a2",
    "id": "13ab658b-8463-4410-a747-33ea2dfb7b68",
    "participant_index": 0,
}


def _reject_nul(text: str) -> str:
    """Reject a character that PostgreSQL cannot store, and that cuts off values in SQLite's `json_each`."""
    if "\x00" in text:
        raise PydanticCustomError("nul", "Must not contain the character NUL")
    return text


StoredText = Annotated[SaidText, AfterValidator(_reject_nul)]
StoredName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_reject_nul)]


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


# Tags in angle brackets, which pydantic puts in front of the field; `models/validation.py` leaves them out.
CHAT, MESSAGE = "<chat>", "<message>"


def _shape(body: Any) -> str | None:
    """Distinguish a chat (or its prediction) from a message (or its answer) by the fields that only one of them has."""
    fields: Set[str] = body.keys() if isinstance(body, dict) else getattr(body, "model_fields_set", frozenset())
    if {"messages", "chat_id", "participants"} & fields:
        return CHAT
    return MESSAGE if {"text", "dialog_id", "id", "participant_index"} & fields else None


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
    """The response body of `/predict`: a prediction for a chat, or for a message.

    Without the tags, BentoML's specification, which `bentoml build` writes, fails at the union.
    """


class Predictions(BaseModel):
    """The answers for many chats, in the order of the request."""

    predictions: list[Prediction] = Field(description="One prediction for each chat, in the order of the request.")
