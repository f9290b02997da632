"""The table of messages in a SQLite file, and the file itself."""

import asyncio
import json
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from bentoml.exceptions import BentoMLConfigException
from filelock import lock_descriptor, unlock_descriptor

from serving.dialog import Outcome, StoredMessage, admit
from serving.history_url import SqliteFile
from serving.store import (
    COLUMNS,
    COUNT_DIALOGS,
    DELETE_AT_ONCE,
    DELETE_DIALOGS,
    GIVE_UP,
    Cause,
    cause_of,
    check_columns,
    make_probe,
    reason_of,
    upgrade_from,
)

LOCK_POLL = 0.0005  # seconds between two attempts to lock the file
CHECKPOINT_EVERY = 250  # transactions of one process
SLOW_DISK = 0.3  # seconds for a checkpoint

T = TypeVar("T")
logger = logging.getLogger("bentoml.store")


def prepare_file(database: Path) -> None:
    """Create the file, and one for its lock, if they are not there.

    In a folder that its group can write, the group can write the file, too: a container that runs as any user of group
    0 goes on where another has stopped. Raises BentoMLConfigException in one line if the file cannot be written.
    """
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        is_shared = bool(database.parent.stat().st_mode & stat.S_IWGRP)
        for file in (database, _lock_file(database)):  # SQLite gives its other files the mode of the database
            is_new = not file.exists()
            with file.open("ab"):
                if is_new and is_shared:
                    file.chmod(0o664)
        if not os.access(database.parent, os.W_OK):  # SQLite creates files beside it
            raise PermissionError(None, "Permission denied", str(database.parent))
    except OSError as error:
        who = f"user {os.geteuid()} of group {os.getegid()}"
        raise BentoMLConfigException(f"{who} cannot store dialogs in {error.filename}: {error.strerror}") from None


def _lock_file(database: Path) -> Path:
    return Path(f"{database}.lock")


class SqliteStore:
    """A SQLite file, which the processes of one machine may share. All transactions run in one thread."""

    _FIND = f"""SELECT {COLUMNS} FROM messages
        WHERE id IN (SELECT value FROM json_each(?)) OR dialog_id IN (SELECT value FROM json_each(?)) ORDER BY seq"""  # noqa: S608
    _INSERT = f"INSERT INTO messages ({COLUMNS}, created_at) VALUES (?, ?, ?, ?, ?)"  # noqa: S608

    def __init__(self, address: SqliteFile) -> None:
        self._file = address.file
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._transactions = 0
        self._checkpointing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "sqlite")

    def __str__(self) -> str:
        return f"SQLite {self._file}"

    async def exchange(self, group: Sequence[StoredMessage]) -> list[Outcome]:
        """See `Store`."""
        return await self._in_transaction(lambda connection: self._exchange(connection, group))

    async def probe(self) -> None:
        """See `Store`. The transaction is committed: only then does SQLite write to the disk, which may be full."""
        message = make_probe()

        def insert_and_delete(connection: sqlite3.Connection) -> None:
            self._exchange(connection, [message])
            connection.execute("DELETE FROM messages WHERE id = ?", (message.id,))

        await self._in_transaction(insert_and_delete)

    async def delete_some(self, oldest: datetime) -> int:
        """See `Store`."""
        statement = DELETE_DIALOGS.format(oldest="?1", limit="?2")
        return await self._in_transaction(
            lambda connection: connection.execute(statement, (_as_text(oldest), DELETE_AT_ONCE)).rowcount
        )

    async def count(self) -> int:
        """See `Store`. It has a connection and a thread of its own."""
        connection = sqlite3.connect(
            f"{self._file.as_uri()}?mode=ro", uri=True, timeout=GIVE_UP, check_same_thread=False
        )

        def run() -> int:
            with closing(connection):
                return int(connection.execute(COUNT_DIALOGS).fetchone()[0])

        try:
            return await asyncio.to_thread(run)
        except asyncio.CancelledError:
            with suppress(sqlite3.ProgrammingError):  # it has just been closed
                connection.interrupt()  # the end of a worker would wait for the thread
            raise

    async def close(self) -> None:
        """See `Store`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        if self._checkpointing:
            await self._checkpointing

    def _exchange(self, connection: sqlite3.Connection, group: Sequence[StoredMessage]) -> list[Outcome]:
        ids = json.dumps([message.id for message in group])
        dialog_ids = json.dumps(list({message.dialog_id for message in group}))
        rows = connection.execute(self._FIND, (ids, dialog_ids))
        outcomes, new = admit(group, [StoredMessage(*row) for row in rows])
        now = _as_text(datetime.now(UTC))
        connection.executemany(self._INSERT, [(*message, now) for message in new])
        return outcomes

    async def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result = await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)
        self._transactions += 1
        if self._transactions % CHECKPOINT_EVERY == 0 and (self._checkpointing is None or self._checkpointing.done()):
            self._checkpointing = asyncio.create_task(asyncio.to_thread(self._checkpoint))
        return result

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if not self._is_in_place():
                self._close()
                self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._only_writer():
                if self._connection is None:
                    self._connection = self._connect()
                self._connection.execute("BEGIN IMMEDIATE")  # one writer at a time, from the first statement on
                result = work(self._connection)
                self._connection.execute("COMMIT")
        except BaseException as error:
            if isinstance(error, Exception) and cause_of(error) is Cause.MESSAGE and self._connection:
                self._connection.rollback()
            else:
                self._close()
            raise
        return result

    def _checkpoint(self) -> None:
        """Move what was committed from SQLite's log into the database.

        SQLite itself does so at the end of a transaction, which then waits for the disk. Here the others go on, with a
        connection of its own. As they add to the log meanwhile, a second checkpoint moves that little while they wait:
        SQLite overwrites the log only after one that left nothing. On a disk that was slow just now there is no
        second one, and the log grows until the disk is faster.
        """
        try:
            with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
                start = time.monotonic()
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                if time.monotonic() - start < SLOW_DISK:
                    with self._only_writer():
                        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except (sqlite3.Error, OSError) as error:
            logger.warning("%s: no checkpoint: %s", self, reason_of(error))

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        """Wait until no other process or thread writes, and keep others waiting.

        SQLite's own wait looks again after up to 0.1 s; a process that looks at the wrong moments waits for seconds.
        """
        lock = os.open(_lock_file(self._file), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            deadline = time.monotonic() + GIVE_UP
            while not lock_descriptor(lock, blocking=False):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process has been writing for {GIVE_UP} seconds")
                time.sleep(LOCK_POLL)
            try:
                yield
            finally:
                unlock_descriptor(lock)
        finally:
            os.close(lock)

    def _connect(self) -> sqlite3.Connection:
        """Connect, and bring the table up to date."""
        connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False, timeout=GIVE_UP)
        try:
            connection.execute("PRAGMA journal_mode=WAL")  # readers and the writer do not wait for each other
            connection.execute("PRAGMA synchronous=NORMAL")  # what is committed survives the end of any process
            connection.execute("PRAGMA wal_autocheckpoint=0")  # `_checkpoint` does it
            connection.execute("BEGIN IMMEDIATE")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            version = int("messages" in tables)
            if version and "messages_version" in tables:
                (version,) = connection.execute("SELECT max(version) FROM messages_version").fetchone()
            if version:
                check_columns([name for name, *_ in connection.execute("SELECT * FROM messages LIMIT 0").description])
            for statement in upgrade_from(version, seq="INTEGER NOT NULL", time="DATETIME"):
                connection.execute(statement)
            connection.execute("COMMIT")
            self._inode = self._file.stat().st_ino
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_in_place(self) -> bool:
        """Return whether the open file is still the one at its path; nobody would ever read what goes to another."""
        try:
            return self._file.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _as_text(time: datetime) -> str:
    """Write a time as the column of SQLite keeps it: UTC, without a zone."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
