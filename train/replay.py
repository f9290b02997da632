"""Tell labelled chats to a running service one message at a time, as the platform does."""

from uuid import uuid4

import httpx
import numpy as np
from tqdm import tqdm

from models.classifier import Floats
from train.data import DataError, Edition
from train.evaluate import AFTER
from train.fit import Ints


def tell_all(url: str, edition: Edition, *, disable: bool = False) -> dict[str, tuple[Ints, Floats]]:
    """Send every message of an edition to `/predict`; raises `DataError` if one is not answered with 200.

    Returns labels and probabilities by the number of messages (`AFTER`): for each participant the last answer by then.
    """
    told: dict[str, tuple[list[int], list[float]]] = {str(after or "all"): ([], []) for after in AFTER}
    with httpx.Client(base_url=url, timeout=30) as client:
        chats = tqdm(edition.chats, unit="chat", desc=edition.name, disable=disable)
        for chat, labels in zip(chats, edition.labels, strict=True):
            dialog = str(uuid4())
            last: dict[int | str, float] = {}
            for number, message in enumerate(chat.messages, start=1):
                body = {
                    "text": message.text,
                    "dialog_id": dialog,
                    "id": str(uuid4()),
                    "participant_index": message.participant_id,
                }
                answer = client.post("/predict", json=body)
                if answer.status_code != httpx.codes.OK:
                    raise DataError(f"{url}: status {answer.status_code} for a message of dialog {chat.chat_id}")
                last[message.participant_id] = answer.json()["is_bot_probability"]
                for after in AFTER:
                    if number == len(chat.messages) if after is None else number == min(after, len(chat.messages)):
                        told[str(after or "all")][0].extend(labels[: len(last)])
                        told[str(after or "all")][1].extend(last.values())
    return {after: (np.array(labels), np.array(values)) for after, (labels, values) in told.items()}
