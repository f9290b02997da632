"""The table of messages: its columns, its versions, and what the errors of a store mean."""

import sqlite3
from enum import Enum, auto
from typing import NamedTuple

import asyncpg

from models.chat import Message

VERSION = 2  # of the tables below


class StoredMessage(NamedTuple):
    """One message as the store keeps it; the one list of columns, from which both stores make their statements.

    A new field needs a new `VERSION` and its statement in `_UPGRADES`, and its value in `Dialogs.store_message` and in
    `make_probe`.
    """

    id: str
    text: str
    dialog_id: str
    participant_index: int

    def as_said(self) -> Message:
        """Return the message as a part of its chat."""
        return Message.model_construct(message_id=self.id, text=self.text, participant_id=self.participant_index)


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


class UnusableStoreError(Exception):
    """The store cannot be used as it is: its table, its file, or the file system."""


class Cause(Enum):
    """Why a group of messages was not stored."""

    TRY_AGAIN = auto()  # the connection was lost, or another process was faster
    MESSAGE = auto()  # the store cannot hold some message of the group
    STORE = auto()  # nothing can be stored for now


def cause_of(error: Exception) -> Cause:
    """Return the cause of an error of a store."""
    match error:
        case (
            ConnectionResetError()
            | asyncpg.PostgresConnectionError()
            | asyncpg.AdminShutdownError()
            | asyncpg.IdleInTransactionSessionTimeoutError()
            | asyncpg.TransactionRollbackError()
            | asyncpg.IntegrityConstraintViolationError()
            | sqlite3.IntegrityError()
        ):
            return Cause.TRY_AGAIN
        case OSError() | asyncpg.ClientConfigurationError() | asyncpg.TargetServerAttributeNotMatched():
            return Cause.STORE  # before the cases below, whose classes these errors also have
        case asyncpg.DataError() | ValueError() | OverflowError():
            return Cause.MESSAGE
        case asyncpg.InterfaceError() | asyncpg.InternalClientError():
            return Cause.TRY_AGAIN  # how the driver shows that the server has closed a session
    return Cause.STORE


def reason_of(error: Exception) -> str:
    """Return one line for the log: the error's class and its message, which is left out where it may quote a chat."""
    text = "" if cause_of(error) is Cause.MESSAGE else str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def upgrade_from(version: int, **types: str) -> list[str]:
    """Return the statements that bring a table up to date; raises UnusableStoreError for one of a newer version."""
    if version > VERSION:
        raise UnusableStoreError(f"the table messages has version {version}, and this service knows {VERSION} at most")
    return [statement.format(**types) for old in range(version, VERSION) for statement in _UPGRADES[old]]
