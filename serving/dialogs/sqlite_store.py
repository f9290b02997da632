"""The table of messages in a SQLite file, and the file itself."""

import asyncio
import json
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from records.messages import COLUMNS, StoredMessage, UnusableStoreError, reason_of, upgrade_from
from serving.dialogs.dialog import Outcome, admit
from serving.dialogs.store import COUNT_DIALOGS, DELETE_OLD, FIND_OLD, make_probe
from serving.dialogs.tasks import GIVE_UP, cancel
from serving.settings import say_who_cannot_write

LOCK_POLL = 0.0005  # seconds between two attempts to begin a transaction
LOCK_SECONDS = GIVE_UP - 0.1  # to wait for another process's lock: less, so that the reason gets into the log
LOG_BYTES = 8_000_000  # of SQLite's log, above which it is moved into the database
MAX_LOG_BYTES = 256_000_000  # of the log, above which messages wait until it has been moved
CHECKPOINT_EVERY = 1.0  # seconds between two checkpoints of one process, at least
SLOW_DISK = 0.3  # seconds for a checkpoint

T = TypeVar("T")
logger = logging.getLogger("bentoml.store")


def prepare_file(database: Path) -> None:
    """Create the file and its folder, if they are not there; raises UnusableStoreError if they cannot be written.

    In a folder that its group can write, the group can write the file, too: a container that runs as any user of group
    0 goes on where another has stopped. SQLite gives its other files the mode of the database.
    """
    folder = database.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not database.is_file():
            with database.open("ab"):
                if folder.stat().st_mode & stat.S_IWGRP:
                    database.chmod(0o664)
        # One that is there is not opened: closing it would end all locks that SQLite has on it in this process, and
        # another process could remove the log (https://www.sqlite.org/howtocorrupt.html, section 2.2).
        for path in (folder, database):  # SQLite creates files beside it
            if not os.access(path, os.W_OK):
                raise PermissionError(None, "Permission denied", str(path))
    except OSError as error:
        raise UnusableStoreError(say_who_cannot_write(folder, error)) from None


class SqliteStore:
    """A SQLite file that the processes of one machine may share.

    One thread stores messages. What only reads, and checkpoints, have a connection of their own, in any thread.
    """

    _FIND = f"""SELECT {COLUMNS} FROM messages
        WHERE id IN (SELECT value FROM json_each(?)) OR dialog_id IN (SELECT value FROM json_each(?)) ORDER BY seq"""  # noqa: S608
    _INSERT = f"INSERT INTO messages ({COLUMNS}, created_at) VALUES ({'?, ' * len(StoredMessage._fields)}?)"  # noqa: S608
    _FIND_OLD = FIND_OLD.format(oldest="?1")
    _DELETE_OLD = DELETE_OLD.format(dialog="?1", oldest="?2")

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._checkpoint: asyncio.Task[None] | None = None

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
        old = [(dialog_id, before) for (dialog_id,) in await self._read(self._FIND_OLD, before)]
        await self._in_transaction(lambda connection: connection.executemany(self._DELETE_OLD, old))
        return len(old)

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
        await cancel(self._checkpoint)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

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
            if self._log_size() > LOG_BYTES and (self._checkpoint is None or self._checkpoint.done()):
                self._checkpoint = asyncio.create_task(self._move_log_and_rest())

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection or self._connect()
            _when_free(connection, "BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            self._close()
            if _name_of(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                raise UnusableStoreError(str(error)) from None
            raise
        return result

    async def _move_log_and_rest(self) -> None:
        await asyncio.to_thread(self._move_log)
        await asyncio.sleep(CHECKPOINT_EVERY)

    def _log_size(self) -> int:
        try:
            return os.stat(f"{self._file}-wal").st_size  # noqa: PTH116  # after each transaction
        except OSError:
            return 0

    def _move_log(self) -> None:
        """Move what was committed from SQLite's log into the database, and empty the log.

        SQLite itself does so at the end of a transaction, which then waits for the disk. Here transactions go on while
        most of the log is moved. They pause only while the small remainder is moved. On a disk that was slow just now
        the remainder is left in the log until the disk is faster, or until the log has `MAX_LOG_BYTES`.
        """
        try:
            # Readers keep the log from being emptied: do not wait long for them, a later checkpoint will do it.
            with closing(sqlite3.connect(self._file, isolation_level=None, timeout=0.1)) as connection:
                start = time.monotonic()
                is_busy, *_ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                is_slow = time.monotonic() - start > SLOW_DISK
                if not is_busy and (not is_slow or self._log_size() > MAX_LOG_BYTES):
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            logger.warning("%s: no checkpoint: %s", self, reason_of(error))

    def _connect(self) -> sqlite3.Connection:
        """Connect, and bring the table up to date."""
        prepare_file(self._file)
        connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False, timeout=0)
        self._connection = connection
        # with it, readers and the writer do not wait for each other
        (mode,) = _when_free(connection, "PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise UnusableStoreError("the file system does not support SQLite's WAL mode, as a local disk does")
        connection.execute("PRAGMA synchronous=NORMAL")  # what is committed survives the end of any process
        connection.execute("PRAGMA wal_autocheckpoint=0")  # see `_move_log`
        _when_free(connection, "BEGIN IMMEDIATE")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        version = int("messages" in tables)
        if version and "messages_version" in tables:
            (version,) = connection.execute("SELECT max(version) FROM messages_version").fetchone()
        for statement in upgrade_from(version, seq="INTEGER NOT NULL", time="DATETIME"):
            connection.execute(statement)
        connection.execute("COMMIT")
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _when_free(connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
    """Execute a statement that needs a lock, when no other process has it.

    SQLite's own wait looks again after up to 0.1 s; a process that looks at the wrong moments waits for seconds. For a
    change of the journal's mode, SQLite does not always wait.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return connection.execute(statement)
        except sqlite3.OperationalError as error:
            if not _name_of(error).startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(LOCK_POLL)


def _name_of(error: BaseException) -> str:
    """Return the name of SQLite's extended error code, which begins with that of the primary one."""
    return str(getattr(error, "sqlite_errorname", ""))


def _as_text(moment: datetime) -> str:
    """Write a time as the column of SQLite keeps it: UTC, without a zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
