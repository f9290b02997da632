"""The table of messages in a SQLite file, and the file itself."""

import asyncio
import json
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bentoml.exceptions import BentoMLConfigException
from filelock import lock_descriptor, unlock_descriptor

from records.history_url import SqliteFile
from records.messages import COLUMNS, KINDS, Cause, StoredMessage, cause_of, check_columns, reason_of, upgrade_from
from serving.dialogs.dialog import Outcome, admit
from serving.dialogs.store import COUNT_DIALOGS, FIND_AT_ONCE, FIND_OLD, GIVE_UP, in_parts, make_probe
from serving.settings import say_who_cannot_write

LOCK_POLL = 0.0005  # seconds between two attempts to lock the file
LOG_BYTES = 8_000_000  # of SQLite's log, above which it is moved into the database
MAX_LOG_BYTES = 256_000_000  # of the log, above which messages wait until it has been moved
CHECKPOINT_SECONDS = 1.0  # between two checkpoints of one process, at least
SLOW_DISK = 0.3  # seconds for a checkpoint

T = TypeVar("T")
logger = logging.getLogger("bentoml.store")


def prepare_file(database: Path) -> None:
    """Create the file; raises BentoMLConfigException in one line if it cannot be written."""
    try:
        _create_file(database)
        if not os.access(database.parent, os.W_OK):  # SQLite creates files beside it
            raise PermissionError(None, "Permission denied", str(database.parent))
    except OSError as error:
        why = say_who_cannot_write(database.parent, error)
        raise BentoMLConfigException(f"cannot store dialogs in {why}") from None


def _create_file(database: Path) -> None:
    """Create the file, and one for its lock, if they are not there.

    In a folder that its group can write, the group can write the file, too: a container that runs as any user of group
    0 goes on where another has stopped.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    is_shared = bool(database.parent.stat().st_mode & stat.S_IWGRP)
    # the lock comes first: as soon as there is a database, another process may make it, without this mode
    for file in (_lock_file(database), database):  # SQLite gives its other files the mode of the database
        is_new = not file.exists()
        with file.open("ab"):
            if is_new and is_shared:
                file.chmod(0o664)


def _lock_file(database: Path) -> Path:
    return Path(f"{database}.lock")


class SqliteStore:
    """A SQLite file that the processes of one machine may share.

    One thread stores messages, another makes checkpoints. What only reads has a connection of its own, in any thread.
    """

    _FIND = f"""SELECT {COLUMNS} FROM messages
        WHERE id IN (SELECT value FROM json_each(?)) OR dialog_id IN (SELECT value FROM json_each(?)) ORDER BY seq"""  # noqa: S608
    _DELETE = """DELETE FROM messages WHERE dialog_id IN (SELECT value FROM json_each(?1)) AND dialog_id NOT IN (
        SELECT dialog_id FROM messages WHERE dialog_id IN (SELECT value FROM json_each(?1)) AND created_at >= ?2
    )"""
    _INSERT = f"INSERT INTO messages ({COLUMNS}, created_at) VALUES ({'?, ' * len(KINDS)}?)"  # noqa: S608

    def __init__(self, address: SqliteFile) -> None:
        self._file = address.file
        self._log = Path(f"{address.file}-wal")
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._checkpoints = ThreadPoolExecutor(1, "checkpoint")
        self._checkpointing: Future[None] | None = None
        self._next_checkpoint = 0.0

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
        """See `Store`. It searches with a connection of its own, and not in the thread that stores."""
        before = _as_text(oldest)
        await self._in_transaction(lambda _: None)  # makes the table, if there is none
        found = await self._read(FIND_OLD.format(oldest="?1", limit="?2"), before, FIND_AT_ONCE)
        for part in in_parts(found):
            # those that have got a message since they were found stay
            await self._in_transaction(partial(self._delete, json.dumps(part), before))
        return len(found)

    def _delete(self, dialog_ids: str, oldest: str, connection: sqlite3.Connection) -> None:
        connection.execute(self._DELETE, (dialog_ids, oldest))

    async def count(self) -> int:
        """See `Store`. It has a connection of its own, and does not run in the thread that stores."""
        ((number,),) = await self._read(COUNT_DIALOGS)
        return int(number)

    async def _read(self, statement: str, *values: object) -> list[Any]:
        connection = sqlite3.connect(
            f"{self._file.as_uri()}?mode=ro", uri=True, timeout=GIVE_UP, check_same_thread=False
        )

        def run() -> list[Any]:
            with closing(connection):
                return connection.execute(statement, values).fetchall()

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
            await asyncio.wrap_future(self._checkpointing)

    def _exchange(self, connection: sqlite3.Connection, group: Sequence[StoredMessage]) -> list[Outcome]:
        ids = json.dumps([message.id for message in group])
        dialog_ids = json.dumps(list({message.dialog_id for message in group}))
        rows = connection.execute(self._FIND, (ids, dialog_ids))
        outcomes, new = admit(group, [StoredMessage(*row) for row in rows])
        now = _as_text(datetime.now(UTC))
        connection.executemany(self._INSERT, [(*message, now) for message in new])
        return outcomes

    async def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)
        finally:
            self._checkpoint_if_due()

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            _create_file(self._file)
        with self._only_writer():
            try:
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

    def _checkpoint_if_due(self) -> None:
        """Start a checkpoint if SQLite's log is long, in a thread of its own."""
        now = time.monotonic()
        log = _size(self._log)
        if (
            log > LOG_BYTES
            and now > self._next_checkpoint
            and (self._checkpointing is None or self._checkpointing.done())
        ):
            self._next_checkpoint = now + CHECKPOINT_SECONDS
            self._checkpointing = self._checkpoints.submit(self._checkpoint)

    def _checkpoint(self) -> None:
        """Move what was committed from SQLite's log into the database, and empty the log.

        SQLite itself does so at the end of a transaction, which then waits for the disk. Here transactions go on while
        most of the log is moved, with a connection of its own. They pause only while the small remainder is
        checkpointed. On a disk that was slow just now the remainder is left in the log until the disk is faster, or
        until the log has `MAX_LOG_BYTES`.
        """
        try:
            # no wait for readers, who keep the log from being emptied: a later checkpoint will do it
            with closing(sqlite3.connect(self._file, isolation_level=None, timeout=0)) as connection:
                start = time.monotonic()
                is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if is_busy:
                    return  # with the checkpoint of another process
                self._sync_to_disk()  # the checkpoint does not tell how slow the disk is if it had little to move
                if time.monotonic() - start < SLOW_DISK or _size(self._log) > MAX_LOG_BYTES:
                    with self._only_writer():
                        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                        # The first transaction in an empty log waits for the disk. Let it be this one.
                        connection.execute("PRAGMA user_version = 0")
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
            connection.execute("PRAGMA wal_autocheckpoint=0")  # see `_checkpoint`
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
        except BaseException:
            connection.close()
            raise
        return connection

    def _sync_to_disk(self) -> None:
        """Write a byte and wait until it is on the disk; the file of the lock will do, as nobody reads it."""
        with _lock_file(self._file).open("r+b", buffering=0) as file:
            file.write(b"\0")
            os.fsync(file.fileno())

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _as_text(moment: datetime) -> str:
    """Write a time as the column of SQLite keeps it: UTC, without a zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
