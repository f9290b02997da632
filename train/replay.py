"""Send labelled chats to a running service one message at a time, as the platform does."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import httpx
import numpy as np
from tqdm import tqdm

from models.chat import Chat
from train.copies import last_answers
from train.data import DataError, Edition
from train.evaluate import AFTER, Measured, streamed

MOST_SHOWN = 200  # characters of an unexpected answer


@dataclass(frozen=True)
class Replayed:
    """What a service answered: measurements, and the number of chats that it rejected for a reason."""

    measured: list[Measured]
    rejected: Counter[str]


class _RejectedError(Exception):
    """The service answered 400 to a message of a chat; the message says why."""


def replay(url: str, edition: Edition, *, disable: bool = False) -> Replayed:
    """Send every message of an edition to `/predict`.

    Measures what `train.evaluate.measure` measures of streamed chats: each participant's last answer within the first
    messages of its chat. The answer to a message has no confidence, and names no base rate, which is NaN. A chat with a
    message that gets 400, such as one that is too long, is left out. Raises `DataError` for any other error.
    """
    answered: list[tuple[Chat, list[int], list[float]]] = []
    rejected: Counter[str] = Counter()
    with _explained(url), httpx.Client(base_url=url, timeout=30) as client:
        chats = tqdm(edition.chats, unit="chat", desc=edition.name, disable=disable)
        for chat, labels in zip(chats, edition.labels, strict=True):
            try:
                answered.append((chat, labels, _send(client, chat)))
            except _RejectedError as error:
                rejected[str(error)] += 1
    if not answered:
        raise DataError(f"{url}: every chat was rejected: {'; '.join(rejected)}")
    return Replayed(_measure(edition.name, answered), rejected)


def served_version(url: str) -> str:
    """Return the version of the model with which a service answers; raises `DataError` if it does not."""
    message = {"message_id": 0, "participant_id": 0, "text": "Which model is this?"}
    with _explained(url), httpx.Client(base_url=url, timeout=30) as client:
        answer = client.post("/predict", json={"chat_id": 0, "messages": [message]})
        if answer.status_code != httpx.codes.OK:
            raise DataError(f"{url}: {answer.status_code} for a chat: {answer.text[:MOST_SHOWN]}")
        return str(answer.json()["model_version"])


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DataError(f"{url}: {error or type(error).__name__}") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{url}: the answer is not one of this service") from None


def _send(client: httpx.Client, chat: Chat) -> list[float]:
    """Send a chat; returns the answer to each message."""
    dialog = str(uuid4())
    said = []
    for message in chat.messages:
        body = {
            "text": message.text,
            "dialog_id": dialog,
            "id": str(uuid4()),
            "participant_index": message.participant_id,
        }
        content = json.dumps(body)  # ASCII: half an emoji is for the service to reject
        answer = client.post("/predict", content=content, headers={"Content-Type": "application/json"})
        if answer.status_code == httpx.codes.BAD_REQUEST:
            detail = answer.json()["detail"]
            raise _RejectedError("; ".join(f"{part['field']}: {part['message']}" for part in detail))
        if answer.status_code != httpx.codes.OK:
            raise DataError(
                f"{client.base_url}: {answer.status_code} for a message of {chat.chat_id}: {answer.text[:MOST_SHOWN]}"
            )
        said.append(float(answer.json()["is_bot_probability"]))
    return said


def _measure(name: str, answered: Sequence[tuple[Chat, Sequence[int], Sequence[float]]]) -> list[Measured]:
    measured = []
    for after in AFTER:
        rows = [
            (label, said[number - 1], number)
            for chat, labels, said in answered
            for label, number in zip(labels, last_answers(chat, after).values(), strict=False)  # some have said nothing
        ]
        labels, probabilities, messages = (np.array(column) for column in zip(*rows, strict=True))
        unknown = np.full(len(rows), "")
        measured.append(Measured(name, streamed(after), labels, probabilities, unknown, messages, np.nan))
    return measured
