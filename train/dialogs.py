"""Read the dialogs that were served, with labels that came later, from the service's store."""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from models.chat import Chat
from records.history_url import parse_history_url
from records.messages import COLUMNS, StoredMessage, reason_of
from train.data import DataError, read_labels

CONNECT_SECONDS = 10
_SELECT = f"SELECT {COLUMNS} FROM messages WHERE dialog_id"  # noqa: S608


@dataclass(frozen=True)
class Served:
    """Labelled dialogs from a store, as `train.data.Edition` has them, and how many were left out and why."""

    chats: list[Chat]
    labels: list[list[int]]
    missing: int
    unlabelled: int


def read_served(url: str, labels_file: Path) -> Served:
    """Read the dialogs of a table of labels from the store at a URL, which is only read.

    A dialog that the store does not hold (any more), or one of whose participants has no label, is left out. Raises
    `DataError` if the store or the labels cannot be read, or if no dialog is left.
    """
    try:
        address = parse_history_url(url)
    except ValueError as error:
        raise DataError(f"--dialogs: {error}") from None
    labels = read_labels(labels_file)
    wanted = list(dict.fromkeys(dialog_id for dialog_id, _ in labels))
    try:
        if isinstance(address, Path):
            rows = _read_sqlite(address, wanted)
        else:
            rows = asyncio.run(_read_postgres(address.connect_arguments, wanted))
    except (OSError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DataError(f"--dialogs: the store cannot be read: {reason_of(error)}") from None
    messages = defaultdict(list)
    for stored in (StoredMessage(*row) for row in rows):
        messages[stored.dialog_id].append(stored.as_said())
    chats, of_chats = [], []
    unlabelled = 0
    for dialog_id, said in messages.items():
        who = dict.fromkeys(message.participant_id for message in said)
        if any((dialog_id, one) not in labels for one in who):
            unlabelled += 1
            continue
        chats.append(Chat.model_construct(chat_id=dialog_id, messages=said))
        of_chats.append([labels[dialog_id, one] for one in who])
    if not chats:
        raise DataError(
            f"{labels_file}: of {len(wanted)} dialogs the store holds {len(messages)}, none of them with a label for"
            " everybody"
        )
    return Served(chats, of_chats, len(wanted) - len(messages), unlabelled)


def _read_sqlite(file: Path, dialogs: Sequence[str]) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
        return [row for dialog_id in dialogs for row in connection.execute(f"{_SELECT} = ? ORDER BY seq", (dialog_id,))]


async def _read_postgres(arguments: Any, dialogs: Sequence[str]) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(**arguments, timeout=CONNECT_SECONDS, statement_cache_size=0)
    try:
        return [tuple(row) for row in await connection.fetch(f"{_SELECT} = ANY($1::text[]) ORDER BY seq", dialogs)]
    finally:
        await connection.close(timeout=CONNECT_SECONDS)
