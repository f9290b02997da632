"""The table of messages: its versions, what a store does with it, and what the errors of a store mean.

There are two stores, `serving/sqlite_store.py` and `serving/postgres_store.py`. Each keeps one connection, opened when
it is first needed. After an error in a transaction the connection is closed, because it may be stale (a restart, a
failover, a replaced file), unless the error was that of a message.

Any number of processes may share the table: one transaction at a time writes to SQLite, and to PostgreSQL one at a time
for each dialog.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import Enum, auto
from typing import Protocol
from uuid import uuid4

import asyncpg

from serving.dialog import Outcome, StoredMessage

GIVE_UP = 1.5  # seconds to wait for a store
FIND_AT_ONCE = 200  # old dialogs, in one search
DELETE_AT_ONCE = 1_000  # messages of old dialogs, in one transaction; a dialog is never cut
VERSION = 2  # of the tables below

COLUMNS = ", ".join(StoredMessage._fields)
_UPGRADES = {  # from a version to the next; 0 is an empty database, and 1 a table made before versions were stored
    0: (
        """CREATE TABLE messages (
            seq {seq} PRIMARY KEY,
            id VARCHAR(128) NOT NULL UNIQUE,
            text TEXT NOT NULL,
            dialog_id VARCHAR(128) NOT NULL,
            participant_index INTEGER NOT NULL,
            created_at {time} NOT NULL
        )""",
        "CREATE INDEX messages_of_dialog ON messages (dialog_id, seq)",
    ),
    1: (
        "CREATE INDEX IF NOT EXISTS messages_by_time ON messages (created_at)",  # the first tables had none
        "CREATE TABLE IF NOT EXISTS messages_version (version INTEGER NOT NULL)",
        "INSERT INTO messages_version VALUES (2)",
    ),
}
COUNT_DIALOGS = "SELECT count(DISTINCT dialog_id) FROM messages"
FIND_OLD = """SELECT dialog_id, count(*) FROM messages
    WHERE dialog_id IN (SELECT DISTINCT dialog_id FROM messages WHERE created_at < {oldest})
    GROUP BY dialog_id HAVING max(created_at) < {oldest} LIMIT {limit}"""


class WrongTableError(Exception):
    """The store holds a table that this version of the service cannot use."""


class Cause(Enum):
    """Why a group of messages was not stored."""

    TRY_AGAIN = auto()  # the connection was lost, or another process was faster; the second time as UNKNOWN
    MESSAGE = auto()  # the store cannot hold some message of the group; halving the group finds it
    UNKNOWN = auto()  # possibly some message of the group; halving it tells
    STORE = auto()  # nothing can be stored for now


def cause_of(error: Exception) -> Cause:
    """Return the cause of an error of a store."""
    match error:
        case (
            WrongTableError()
            | asyncpg.ClientConfigurationError()
            | asyncpg.TargetServerAttributeNotMatched()
            | sqlite3.OperationalError()
        ):
            return Cause.STORE
        case OSError():  # before ValueError, which an error of a certificate is, too
            return Cause.TRY_AGAIN if isinstance(error, ConnectionResetError) else Cause.STORE
        case asyncpg.DataError() | sqlite3.DataError() | ValueError() | OverflowError():
            return Cause.MESSAGE
        case (
            asyncpg.PostgresConnectionError()
            | asyncpg.AdminShutdownError()
            | asyncpg.IdleInTransactionSessionTimeoutError()
            | asyncpg.InterfaceError()  # with the next, how the driver shows that the server has closed a session
            | asyncpg.InternalClientError()
            | asyncpg.TransactionRollbackError()
            | asyncpg.IntegrityConstraintViolationError()
            | sqlite3.IntegrityError()
        ):
            return Cause.TRY_AGAIN
        case asyncpg.PostgresError():
            return Cause.STORE
    return Cause.STORE if type(error) is sqlite3.DatabaseError else Cause.UNKNOWN


def reason_of(error: Exception) -> str:
    """Return one line for the log: the error's class and message, cut before anything that may quote a message."""
    text = error.reason if isinstance(error, UnicodeEncodeError) else str(error).partition("\n")[0]
    if cause_of(error) is not Cause.STORE:  # errors of the store itself are not about a message
        text = re.split(r"['\"\[:]|\b0x", text, maxsplit=1)[0]
    return f"{type(error).__name__}: {text.strip()}".removesuffix(": ")


class Store(Protocol):
    """Where messages are kept. Errors of the driver come through as they are; `cause_of` reads them."""

    async def exchange(self, group: Sequence[StoredMessage]) -> list[Outcome]:
        """Store the new ones of a group of messages in one transaction; returns what becomes of each, in order."""
        ...

    async def probe(self) -> None:
        """Store a message as `exchange` does, and take it back; raises what keeps messages from being stored."""
        ...

    async def delete_some(self, oldest: datetime) -> int:
        """Delete some of the dialogs whose last message is older; returns how many were found, 0 if there are no more.

        A transaction deletes a few of them, so that messages get in between.
        """
        ...

    async def count(self) -> int:
        """Return the number of dialogs, without holding up messages."""
        ...

    async def close(self) -> None:
        """Close the connection; the next use opens another."""
        ...


def in_parts(found: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Cut dialogs, each with its number of messages, into parts of about `DELETE_AT_ONCE` messages."""
    part: list[str] = []
    filled = 0
    for dialog_id, messages in found:
        if part and filled + messages > DELETE_AT_ONCE:
            yield part
            part, filled = [], 0
        part.append(dialog_id)
        filled += messages
    if part:
        yield part


def upgrade_from(version: int, **types: str) -> list[str]:
    """Return the statements that bring a table up to date; raises WrongTableError for one of a newer version."""
    if version > VERSION:
        raise WrongTableError(f"the table messages has version {version}, and this service knows {VERSION} at most")
    return [statement.format(**types) for old in range(version, VERSION) for statement in _UPGRADES[old]]


def check_columns(names: Sequence[str]) -> None:
    """Raise WrongTableError if a table lacks a column."""
    missing = [name for name in ("seq", *COLUMNS.split(", "), "created_at") if name not in names]
    if missing:
        raise WrongTableError(f"the table messages is not this service's: it has no column {', '.join(missing)}")


def make_probe() -> StoredMessage:
    """Return a message that no dialog has, to find out whether messages can be stored."""
    name = f"probe-{uuid4()}"
    return StoredMessage(name, "", name, 0)
