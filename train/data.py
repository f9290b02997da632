"""Read labelled chats in the You are Bot format.

A folder holds `train.json`, `{dialog_id: [{"message": order, "text": str, "participant_index": 0 or 1}, …]}`, and
`ytrain.csv` with the columns `dialog_id, participant_index, is_bot`. One edition writes the participant index as a
string, the other as an integer; here it is always an integer.
"""

import csv
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.chat import Chat, Message
from models.weights import current

CHATS = "train.json"
LABELS = "ytrain.csv"
FINGERPRINT = 8  # bytes; two of a million chats have the same one with a probability of 1 : 37 million
MAX_INDEX = 2**31 - 1  # of a participant, as in a message that the platform sends
_COLUMNS = ["dialog_id", "participant_index", "is_bot"]
_WHOLE = re.compile("-?[0-9]{1,10}")
_SEVERAL = object()  # in place of values that contradict each other


class DataError(Exception):
    """A data set cannot be used; the message names the file and the row."""


@dataclass(frozen=True)
class Edition:
    """One folder's labelled chats; `labels[i]` holds one 0 or 1 for each participant of `chats[i]` as they appear."""

    name: str
    sha256: str
    chats: list[Chat]
    labels: list[list[int]]

    def without(self, known: Container[bytes]) -> "Edition":
        """Return the edition without the chats that have one of these fingerprints; it may be empty."""
        kept = [at for at, chat in enumerate(self.chats) if fingerprint(chat) not in known]
        return replace(self, chats=[self.chats[at] for at in kept], labels=[self.labels[at] for at in kept])


def fingerprint(chat: Chat) -> bytes:
    """Return `FINGERPRINT` bytes that tell a chat from others by what was said, and by whom, in which order.

    Identifiers, capital letters and white space make no difference.
    """
    speakers = list(dict.fromkeys(message.participant_id for message in chat.messages))
    said = [
        (speakers.index(message.participant_id), unicodedata.normalize("NFKC", message.text).casefold().split())
        for message in chat.messages
    ]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=FINGERPRINT).digest()


def read_editions(folders: Sequence[Path]) -> list[Edition]:
    """Read each folder as one edition; raises `DataError` for a folder that cannot be used."""
    return [_read_edition(folder) for folder in folders]


def _read_edition(folder: Path) -> Edition:
    chats_file, labels_file = current(folder, CHATS), current(folder, LABELS)
    raw, dialogs = _read_dialogs(chats_file)
    chats = [_read_chat(chats_file, dialog_id, messages) for dialog_id, messages in dialogs.items()]
    participants = {str(chat.chat_id): list(dict.fromkeys(m.participant_id for m in chat.messages)) for chat in chats}
    labels = read_labels(labels_file, participants)
    for dialog_id, of_chat in participants.items():
        for index in of_chat:
            if (dialog_id, index) not in labels:
                raise DataError(f"{labels_file}: no label for dialog {dialog_id}, participant {index}")
    by_side = [[labels[dialog_id, index] for index in of_chat] for dialog_id, of_chat in participants.items()]
    digest = hashlib.sha256(raw + labels_file.read_bytes()).hexdigest()
    name = folder.resolve().name.encode("utf-8", "backslashreplace").decode()  # a name may hold any bytes
    return Edition(name, digest, chats, by_side)


def check_enough(editions: Sequence[Edition], least: int) -> None:
    """Raise `DataError` for an edition with fewer than `least` chats with a bot, or with a person, to train on."""
    for edition in editions:
        for kind, label in (("a person", 0), ("a bot", 1)):
            chats = sum(label in of_chat for of_chat in edition.labels)
            if chats < least:
                raise DataError(
                    f"{edition.name}: {chats} of {len(edition.chats)} chats are with {kind}; training and"
                    f" cross-validation need at least {least} with a person and {least} with a bot"
                )


def write_edition(folder: Path, chats: Sequence[Chat], labels: Sequence[Sequence[int]]) -> None:
    """Write labelled chats to an empty folder, which `read_editions` can read then."""
    dialogs = {
        str(chat.chat_id): [
            {"message": number, "text": message.text, "participant_index": message.participant_id}
            for number, message in enumerate(chat.messages)
        ]
        for chat in chats
    }
    content = json.dumps(dialogs, ensure_ascii=False, indent=1) + "\n"
    (folder / CHATS).write_bytes(content.encode("utf-8", "backslashreplace"))  # half an emoji becomes an escape of JSON
    rows = [
        (chat.chat_id, participant, label)
        for chat, of_chat in zip(chats, labels, strict=True)
        for participant, label in zip(
            dict.fromkeys(message.participant_id for message in chat.messages), of_chat, strict=True
        )
    ]
    with (folder / LABELS).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])


def read_chats(file: Path) -> list[Chat]:
    """Read dialogs without labels; raises `DataError` for a file that cannot be used."""
    return [_read_chat(file, dialog_id, messages) for dialog_id, messages in _read_dialogs(file)[1].items()]


def _read_dialogs(file: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        raw = file.read_bytes()
        dialogs = json.loads(raw, object_pairs_hook=_read_object)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; it holds the dialogs") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except RecursionError:  # its text differs among versions of Python
        raise DataError(f"{file}: cannot be read: nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    if not isinstance(dialogs, dict) or not dialogs:
        raise DataError(f"{file}: expected an object of dialogs by their identifier, found {_shown(dialogs)}")
    return raw, dialogs


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; a name that occurs several times with different values gets `_SEVERAL`."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        members[name] = value if name not in members or members[name] == value else _SEVERAL
    return members


def read_labels(
    file: Path, participants: Mapping[str, Container[int | str]] | None = None
) -> dict[tuple[Any, Any], int]:
    """Read a table of labels; returns 0 or 1 by dialog and participant.

    Raises `DataError` for a file that cannot be used, and for one who is not among the `participants` of a dialog.
    """
    try:
        rows = csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        header = next(rows, [])
        columns = _find_columns(file, header)
        labels: dict[tuple[Any, Any], int] = {}
        for row in rows:
            if row:
                where = f"{file}, line {rows.line_num}"
                key, label = _read_label(where, row, len(header), columns)
                dialog_id, participant = key
                if participants is not None and dialog_id not in participants:
                    raise DataError(f"{where}: dialog {dialog_id} is not in {CHATS}")
                if participants is not None and participant not in participants[dialog_id]:
                    raise DataError(f"{where}: participant {participant} has no message in dialog {dialog_id}")
                if labels.setdefault(key, label) != label:
                    raise DataError(
                        f"{where}: is_bot of dialog {dialog_id}, participant {participant} is {label} here and"
                        f" {labels[key]} in another line"
                    )
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; it holds the labels") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    return labels


def _find_columns(file: Path, header: Sequence[str]) -> list[int]:
    """Return where each of `_COLUMNS` is in the header of a table."""
    expected = f"expected {','.join(_COLUMNS)}"
    for separator in (";", "\t", "|"):
        if len(header) == 1 and separator in header[0]:
            raise DataError(f"{file}, line 1: the separator is {separator!r}; {expected}")
    for column in _COLUMNS:
        if header.count(column) != 1:
            how_often = "twice" if column in header else "missing"
            raise DataError(f"{file}, line 1: column {column} is {how_often}; {expected}")
    return [header.index(column) for column in _COLUMNS]


def _read_label(where: str, row: Sequence[str], width: int, columns: Sequence[int]) -> tuple[tuple[str, int], int]:
    if len(row) != width:
        raise DataError(f"{where}: {len(row)} values in {width} columns")
    dialog_id, participant, label = (row[column] for column in columns)
    if label not in ("0", "1"):
        raise DataError(f"{where}: is_bot has to be 0 or 1, not {label!r:.40}")
    return (dialog_id, _read_participant(where, participant)), int(label)


def _read_participant(where: str, value: Any) -> int:
    """Return the index of a participant, which is a whole number, or one that is written as a string."""
    number = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
    if type(number) is not int or abs(number) > MAX_INDEX:  # True and False are of another type
        raise DataError(f"{where}: participant_index has to be a whole number, not {value!r:.40}")
    return number


def _read_chat(file: Path, dialog_id: str, messages: Any) -> Chat:
    """Read a chat; the texts of its messages are in no error."""
    where = f"{file}: dialog {dialog_id}"
    if messages is _SEVERAL:
        raise DataError(f"{where}: there are several with different messages")
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: expected a list of messages, found {_shown(messages)}")
    read: list[Message] = []
    for number, message in enumerate(messages, start=1):
        read.append(_read_message(f"{where}, message {number} of {len(messages)}", message))
        order = [one.message_id for one in read[-2:]]
        if order != sorted(set(order)):
            raise DataError(
                f"{where}, message {number} of {len(messages)}: `message` has to increase, and is {order[1]} after"
                f" {order[0]}"
            )
    return Chat.model_construct(chat_id=dialog_id, messages=read)  # the limits of a request do not hold for data


def _read_message(where: str, message: Any) -> Message:
    if not isinstance(message, dict):
        raise DataError(f"{where}: expected message, text and participant_index, found {_shown(message)}")
    for name in ("message", "text", "participant_index"):
        if name not in message:
            raise DataError(f"{where}: {name} is missing")
        if message[name] is _SEVERAL:
            raise DataError(f"{where}: there are several values of {name}")
    order, text = message["message"], message["text"]
    if type(order) is not int:
        raise DataError(f"{where}: `message` has to be a whole number, not {_shown(order)}")
    if not isinstance(text, str):
        raise DataError(f"{where}: text has to be a string, not {_shown(text)}")
    participant = _read_participant(where, message["participant_index"])
    return Message.model_construct(message_id=order, text=text, participant_id=participant)


def _shown(value: Any) -> str:
    """Return a value for an error; of strings, lists and objects, which may hold what was said, only the type."""
    match value:
        case str():
            return "a string"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a JSON object"
    return f"{value!r:.40}"
