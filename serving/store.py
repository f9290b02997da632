"""The table of messages, in a SQLite file or in PostgreSQL, behind one interface.

Each store keeps one connection. It opens it when it is first needed, and closes it after an error, unless a message was
what could not be stored: a connection that went stale (a restart, a failover, a replaced file) is not used again.

Any number of processes may share the table: one transaction at a time writes to SQLite, and to PostgreSQL one for each
dialog.
"""

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from enum import Enum, auto
from functools import partial
from hashlib import blake2b
from typing import BinaryIO, NamedTuple, Protocol, TypeVar
from uuid import uuid4

import asyncpg
from filelock import lock_descriptor, unlock_descriptor

from serving.dialog import Outcome, StoredMessage, decide
from serving.history_url import PostgresAddress, SqliteFile

GIVE_UP = 1.5  # seconds to wait for a store
LOCK_POLL = 0.0005  # seconds between two attempts to lock the SQLite file
DELETE_AT_ONCE = 200  # messages, by which the dialogs are found that are deleted in one transaction
SCHEMA_LOCK = 0x7475_7269  # any number, for PostgreSQL's lock while the table is created
VERSION = 2  # of the tables below

T = TypeVar("T")

_COLUMNS = "id, text, dialog_id, participant_index"
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
_COUNT = "SELECT count(DISTINCT dialog_id) FROM messages"
_DELETE_SOME = """DELETE FROM messages WHERE dialog_id IN (
    SELECT dialog_id FROM messages WHERE created_at < {oldest} AND NOT EXISTS (
        SELECT 1 FROM messages AS later WHERE later.dialog_id = messages.dialog_id AND later.created_at >= {oldest}
    ) LIMIT {limit}
)"""


class WrongTableError(Exception):
    """The store holds a table that this version of the service cannot use."""


class Cause(Enum):
    """Why a group of messages was not stored, as far as an error tells."""

    TRY_AGAIN = auto()  # the connection was lost, or another process was faster
    MESSAGE = auto()  # a message of the group is what the store cannot hold
    UNKNOWN = auto()  # it may be a message of the group
    STORE = auto()  # nothing can be stored for now


def cause_of(error: Exception) -> Cause:
    """Return the cause of an error of `Store.exchange`."""
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
    if cause_of(error) is not Cause.STORE:
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
        """Delete some of the dialogs whose last message is older; returns how many messages were deleted."""
        ...

    async def count(self) -> int:
        """Return the number of dialogs, without holding up messages."""
        ...

    async def close(self) -> None:
        """Close the connection; the next use opens another."""
        ...


def open_store(address: SqliteFile | PostgresAddress) -> Store:
    """Return the store at an address; it connects when it is first used."""
    return SqliteStore(address) if isinstance(address, SqliteFile) else PostgresStore(address)


def _upgrade_from(version: int, **types: str) -> list[str]:
    """Return the statements that bring a table up to date; raises WrongTableError for one of a newer version."""
    if version > VERSION:
        raise WrongTableError(f"the table messages has version {version}, and this service knows {VERSION} at most")
    return [statement.format(**types) for old in range(version, VERSION) for statement in _UPGRADES[old]]


def _check_columns(names: Sequence[str]) -> None:
    missing = [name for name in ("seq", *_COLUMNS.split(", "), "created_at") if name not in names]
    if missing:
        raise WrongTableError(f"the table messages is not this service's: it has no column {', '.join(missing)}")


def _probe_message() -> StoredMessage:
    name = f"probe-{uuid4()}"
    return StoredMessage(name, "", name, 0)


class SqliteStore:
    """A SQLite file, which the processes of one machine may share. All work is done in one thread."""

    _FIND = f"""SELECT {_COLUMNS} FROM messages
        WHERE id IN (SELECT value FROM json_each(?)) OR dialog_id IN (SELECT value FROM json_each(?)) ORDER BY seq"""  # noqa: S608
    _INSERT = f"INSERT INTO messages ({_COLUMNS}, created_at) VALUES (?, ?, ?, ?, ?)"  # noqa: S608

    def __init__(self, address: SqliteFile) -> None:
        self._file = address.file
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._lock: BinaryIO | None = None
        self._thread = ThreadPoolExecutor(1, "sqlite")

    def __str__(self) -> str:
        return f"SQLite {self._file}"

    async def exchange(self, group: Sequence[StoredMessage]) -> list[Outcome]:
        """See `Store`."""
        return await self._in_transaction(lambda connection: self._exchange(connection, group))

    async def probe(self) -> None:
        """See `Store`. The transaction is committed: only then does SQLite write to the disk, which may be full."""
        message = _probe_message()

        def insert_and_delete(connection: sqlite3.Connection) -> None:
            self._exchange(connection, [message])
            connection.execute("DELETE FROM messages WHERE id = ?", (message.id,))

        await self._in_transaction(insert_and_delete)

    async def delete_some(self, oldest: datetime) -> int:
        """See `Store`."""
        statement = _DELETE_SOME.format(oldest="?1", limit="?2")
        return await self._in_transaction(
            lambda connection: connection.execute(statement, (_written(oldest), DELETE_AT_ONCE)).rowcount
        )

    async def count(self) -> int:
        """See `Store`. It has a connection and a thread of its own."""
        connection = sqlite3.connect(
            f"{self._file.as_uri()}?mode=ro", uri=True, timeout=GIVE_UP, check_same_thread=False
        )

        def run() -> int:
            with closing(connection):
                return int(connection.execute(_COUNT).fetchone()[0])

        try:
            return await asyncio.to_thread(run)
        except asyncio.CancelledError:
            with suppress(sqlite3.ProgrammingError):  # it has just been closed
                connection.interrupt()  # the end of a worker would wait for the thread
            raise

    async def close(self) -> None:
        """See `Store`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    def _exchange(self, connection: sqlite3.Connection, group: Sequence[StoredMessage]) -> list[Outcome]:
        ids = json.dumps([message.id for message in group])
        dialog_ids = json.dumps(list({message.dialog_id for message in group}))
        rows = connection.execute(self._FIND, (ids, dialog_ids))
        outcomes, new = decide(group, [StoredMessage(*row) for row in rows])
        now = _written(datetime.now(UTC))
        connection.executemany(self._INSERT, [(*message, now) for message in new])
        return outcomes

    async def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if not self._is_in_place():
                self._close()
            with self._file_lock():
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

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        """Wait until no other process writes, and keep others waiting.

        SQLite's own wait looks again after up to 0.1 s; a process that looks at the wrong moments waits for seconds.
        """
        if self._lock is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._file.with_name(f"{self._file.name}.lock").open("wb")
        deadline = time.monotonic() + GIVE_UP
        while not lock_descriptor(self._lock.fileno(), blocking=False):
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has been writing for {GIVE_UP} seconds")
            time.sleep(LOCK_POLL)
        try:
            yield
        finally:
            unlock_descriptor(self._lock.fileno())

    def _connect(self) -> sqlite3.Connection:
        """Connect, and bring the table up to date."""
        connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False, timeout=GIVE_UP)
        try:
            connection.execute("PRAGMA journal_mode=WAL")  # readers and the writer do not wait for each other
            connection.execute("PRAGMA synchronous=NORMAL")  # what is committed survives the end of any process
            connection.execute("PRAGMA wal_autocheckpoint=4000")  # pages of 4 KB; fewer waits for the disk than 1,000
            connection.execute("BEGIN IMMEDIATE")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            version = int("messages" in tables)
            if version and "messages_version" in tables:
                (version,) = connection.execute("SELECT max(version) FROM messages_version").fetchone()
            if version:
                _check_columns([name for name, *_ in connection.execute("SELECT * FROM messages LIMIT 0").description])
            for statement in _upgrade_from(version, seq="INTEGER NOT NULL", time="DATETIME"):
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
        for opened in (self._connection, self._lock):
            if opened is not None:
                opened.close()
        self._connection = self._lock = None


def _written(time: datetime) -> str:
    """Write a time as the column of SQLite keeps it: UTC, without a zone."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


class PostgresStore:
    """A PostgreSQL database, which any number of processes may share, directly or through a pooler."""

    _FIND = f"SELECT {_COLUMNS} FROM messages WHERE id = ANY($1::text[]) OR dialog_id = ANY($2::text[]) ORDER BY seq"  # noqa: S608
    _INSERT = f"""INSERT INTO messages ({_COLUMNS}, created_at)
        SELECT {_COLUMNS}, now()
        FROM unnest($1::text[], $2::text[], $3::text[], $4::int[]) WITH ORDINALITY AS new ({_COLUMNS}, number)
        ORDER BY number"""  # noqa: S608
    # Each dialog is locked, so that its messages are stored one after the other. The locks come before the statement
    # that reads, which would otherwise not see what was committed while it waited for them.
    # The server ends the transaction of a worker that it cannot reach, which would hold on to its locks; the worker
    # itself has given up by then.
    _BEGIN = """BEGIN ISOLATION LEVEL READ COMMITTED;
        SET LOCAL idle_in_transaction_session_timeout = '2s';
        SELECT pg_advisory_xact_lock(dialog) FROM unnest(ARRAY[{dialogs}]::bigint[]) AS dialog"""

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._session: _Session | None = None
        self._lock = asyncio.Lock()

    def __str__(self) -> str:
        return f"PostgreSQL {self._address.name}"

    async def exchange(self, group: Sequence[StoredMessage]) -> list[Outcome]:
        """See `Store`."""
        return await self._exchange(group, "COMMIT")

    async def probe(self) -> None:
        """See `Store`."""
        await self._exchange([_probe_message()], "ROLLBACK")

    async def delete_some(self, oldest: datetime) -> int:
        """See `Store`. It has a connection of its own, so that messages do not wait for it."""
        session = await self._connect()
        try:
            statement = _DELETE_SOME.format(oldest="$1", limit="$2")
            done = await session.connection.execute(statement, oldest, DELETE_AT_ONCE)
        finally:
            session.connection.terminate()
        return int(done.split()[-1])

    async def count(self) -> int:
        """See `Store`. It has a connection of its own."""
        session = await self._connect()
        try:
            return int(await session.connection.fetchval(_COUNT))
        finally:
            session.connection.terminate()

    async def close(self) -> None:
        """See `Store`."""
        session, self._session = self._session, None
        if session is not None:
            session.connection.terminate()

    async def _exchange(self, group: Sequence[StoredMessage], end: str) -> list[Outcome]:
        dialog_ids = list({message.dialog_id for message in group})
        async with self._lock, self._transaction(dialog_ids, end) as session:
            rows = await session.find([message.id for message in group], dialog_ids)
            outcomes, new = decide(group, [StoredMessage(*row) for row in rows])
            if new:
                await session.insert(*zip(*new, strict=True))
        return outcomes

    @asynccontextmanager
    async def _transaction(self, dialog_ids: Sequence[str], end: str) -> AsyncIterator["_Session"]:
        """Run a transaction that locks some dialogs; the session is kept only if all went as it should."""
        if self._session is None or self._session.connection.is_closed():
            self._session = await self._connect()
        session, self._session = self._session, None
        locks = ",".join(map(str, sorted(map(_lock_of, dialog_ids))))
        try:
            await session.connection.execute(self._BEGIN.format(dialogs=locks))
            try:
                yield session
            except Exception as error:
                if cause_of(error) is Cause.MESSAGE:
                    await session.connection.execute("ROLLBACK")
                    self._session = session
                raise
            await session.connection.execute(end)
            self._session = session
        finally:
            if self._session is None:
                session.connection.terminate()  # waits for nothing, whatever the server does

    async def _connect(self) -> "_Session":
        """Connect, and bring the table up to date."""
        connection = await asyncpg.connect(**self._address.connect_arguments, timeout=GIVE_UP, statement_cache_size=0)
        try:
            if await self._find_version(connection) != VERSION:
                async with connection.transaction():
                    await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
                    version = await self._find_version(connection)
                    if version:
                        table = await connection.prepare("SELECT * FROM messages LIMIT 0")
                        _check_columns([attribute.name for attribute in table.get_attributes()])
                    for statement in _upgrade_from(version, seq="BIGSERIAL", time="TIMESTAMPTZ"):
                        await connection.execute(statement)
            # Behind a pooler such as PgBouncer the next transaction may get another connection of the server, which
            # does not know the statements that were prepared on this one. It shows by the process that serves it.
            if connection.get_server_pid() != await connection.fetchval("SELECT pg_backend_pid()"):
                return _Session(
                    connection, partial(connection.fetch, self._FIND), partial(connection.fetch, self._INSERT)
                )
            find, insert = await connection.prepare(self._FIND), await connection.prepare(self._INSERT)
        except BaseException:
            connection.terminate()
            raise
        return _Session(connection, find.fetch, insert.fetch)

    async def _find_version(self, connection: "asyncpg.Connection") -> int:
        # to_regclass would not see what another process has made while this one waited for the lock
        names = "SELECT relname FROM pg_class WHERE relname LIKE 'messages%' AND pg_table_is_visible(oid)"
        tables = {name for (name,) in await connection.fetch(names)}
        if tables >= {"messages", "messages_version"}:
            return int(await connection.fetchval("SELECT max(version) FROM messages_version"))
        return int("messages" in tables)


class _Session(NamedTuple):
    """A connection, and what runs the two statements of an exchange on it."""

    connection: "asyncpg.Connection"
    find: Callable[..., Awaitable[list[asyncpg.Record]]]
    insert: Callable[..., Awaitable[list[asyncpg.Record]]]


def _lock_of(dialog_id: str) -> int:
    """Return the number of PostgreSQL's lock for a dialog, 64 bits with a sign."""
    return int.from_bytes(blake2b(dialog_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)
