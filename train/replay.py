"""Send labelled chats to a running service one message at a time, as the platform does."""

from uuid import uuid4

import httpx
import numpy as np
from tqdm import tqdm

from train.copies import last_answers
from train.data import DataError, Edition
from train.evaluate import AFTER, Measured, streamed


def replay(url: str, edition: Edition, *, disable: bool = False) -> list[Measured]:
    """Send every message of an edition to `/predict`; raises `DataError` for any status but 200.

    Returns what `train.evaluate.measure` measures of streamed chats: each participant's last answer within the first
    messages of its chat. The home expert's share and the base rate, which `/predict` does not return, are NaN.
    """
    answers = []  # of each chat, one for each message
    with httpx.Client(base_url=url, timeout=30) as client:
        for chat in tqdm(edition.chats, unit="chat", desc=edition.name, disable=disable):
            dialog = str(uuid4())
            said = []
            for message in chat.messages:
                body = {
                    "text": message.text,
                    "dialog_id": dialog,
                    "id": str(uuid4()),
                    "participant_index": message.participant_id,
                }
                answer = client.post("/predict", json=body)
                if answer.status_code != httpx.codes.OK:
                    raise DataError(f"{url}: status {answer.status_code} for a message of dialog {chat.chat_id}")
                said.append(answer.json()["is_bot_probability"])
            answers.append(said)
    measured = []
    for after in AFTER:
        rows = [
            (label, said[number - 1], number)
            for chat, labels, said in zip(edition.chats, edition.labels, answers, strict=True)
            for label, number in zip(labels, last_answers(chat, after).values(), strict=False)  # some have said nothing
        ]
        labels, probabilities, messages = (np.array(column) for column in zip(*rows, strict=True))
        unknown = np.full(len(rows), np.nan)
        measured.append(Measured(edition.name, streamed(after), labels, probabilities, messages, unknown, np.nan))
    return measured
