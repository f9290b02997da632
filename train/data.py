"""Read labelled chats in the You are Bot format.

A folder holds `train.json`, `{dialog_id: [{"message": order, "text": str, "participant_index": 0 or 1}, …]}`, and
`ytrain.csv` with the columns `dialog_id, participant_index, is_bot`. One edition writes the participant index as a
string, the other as an integer; here it is always an integer.
"""

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from models.chat import Chat, Message

CHATS = "train.json"
LABELS = "ytrain.csv"
_COLUMNS = ["dialog_id", "participant_index", "is_bot"]


class DataError(Exception):
    """A data set cannot be used; the message names the file and the row."""


@dataclass(frozen=True)
class Edition:
    """One folder's labelled chats; `labels[i]` holds one 0 or 1 for each participant of `chats[i]` as they appear."""

    name: str
    sha256: str
    chats: list[Chat]
    labels: list[list[int]]


def read_editions(folders: Sequence[Path]) -> list[Edition]:
    """Read each folder as one edition; raises `DataError` for a folder that cannot be used."""
    return [_read_edition(folder) for folder in folders]


def _read_edition(folder: Path) -> Edition:
    chats_file, labels_file = folder / CHATS, folder / LABELS
    raw, dialogs = _read_dialogs(chats_file)
    labels = read_labels(labels_file, dialogs)
    chats = [_read_chat(chats_file, dialog_id, messages) for dialog_id, messages in dialogs.items()]
    by_side = []
    for chat in chats:
        participants = dict.fromkeys(message.participant_id for message in chat.messages)
        missing = [index for index in participants if (chat.chat_id, index) not in labels]
        if missing:
            raise DataError(f"{labels_file}: no label for dialog {chat.chat_id}, participant {missing[0]}")
        by_side.append([labels[chat.chat_id, index] for index in participants])
    digest = hashlib.sha256(raw + labels_file.read_bytes()).hexdigest()
    return Edition(folder.resolve().name, digest, chats, by_side)


def write_edition(folder: Path, chats: Sequence[Chat], labels: Sequence[Sequence[int]]) -> None:
    """Write labelled chats as a folder that `read_editions` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    dialogs = {
        str(chat.chat_id): [
            {"message": number, "text": message.text, "participant_index": message.participant_id}
            for number, message in enumerate(chat.messages)
        ]
        for chat in chats
    }
    (folder / CHATS).write_text(json.dumps(dialogs, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    rows = [
        (chat.chat_id, participant, label)
        for chat, of_chat in zip(chats, labels, strict=True)
        for participant, label in zip(
            dict.fromkeys(message.participant_id for message in chat.messages), of_chat, strict=True
        )
    ]
    pd.DataFrame(rows, columns=_COLUMNS).to_csv(folder / LABELS, index=False)


def read_chats(file: Path) -> list[Chat]:
    """Read dialogs without labels; raises `DataError` for a file that cannot be used."""
    return [_read_chat(file, dialog_id, messages) for dialog_id, messages in _read_dialogs(file)[1].items()]


def _read_dialogs(file: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        raw = file.read_bytes()
        dialogs = json.loads(raw)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; it holds the dialogs") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    if not isinstance(dialogs, dict) or not dialogs:
        raise DataError(f"{file}: expected an object of dialogs by their identifier")
    return raw, dialogs


def read_labels(file: Path, dialogs: Container[str] | None = None) -> dict[tuple[Any, Any], int]:
    """Read a table of labels; returns 0 or 1 by dialog and participant.

    Raises `DataError` for a file that cannot be used, or that names a dialog which is not one of `dialogs`.
    """
    try:
        table = pd.read_csv(file, dtype={"dialog_id": str})
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; it holds the labels") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    missing = [column for column in _COLUMNS if column not in table.columns]
    if missing:
        raise DataError(f"{file}: column {missing[0]} is missing; expected {', '.join(_COLUMNS)}")
    labels: dict[tuple[Any, Any], int] = {}
    rows = table[_COLUMNS].itertuples(index=False, name=None)
    for row, (dialog_id, participant, label) in enumerate(rows, start=2):  # line 1 is the header
        if dialogs is not None and dialog_id not in dialogs:
            raise DataError(f"{file}, line {row}: dialog {dialog_id} is not in {CHATS}")
        if label not in (0, 1):
            raise DataError(f"{file}, line {row}: is_bot has to be 0 or 1")
        try:
            labels[dialog_id, int(participant)] = int(label)
        except ValueError:
            raise DataError(f"{file}, line {row}: participant_index has to be a whole number") from None
    return labels


def _read_chat(file: Path, dialog_id: str, messages: Any) -> Chat:
    try:
        texts = [message["text"] for message in messages]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise TypeError
        return Chat.model_construct(  # not validated: the limits of a request do not hold for data
            chat_id=dialog_id,
            messages=[
                Message.model_construct(
                    message_id=message["message"],
                    text=text,
                    participant_id=int(message["participant_index"]),
                )
                for message, text in zip(messages, texts, strict=True)
            ],
        )
    except KeyError as error:
        raise DataError(f"{file}: dialog {dialog_id}: a message has no field {error}") from None
    except (TypeError, ValueError):
        raise DataError(
            f"{file}: dialog {dialog_id}: expected a list of messages with message, text and participant_index"
        ) from None
