"""The table of messages in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

import asyncpg

from records.history_url import PostgresAddress
from records.messages import COLUMNS, VERSION, StoredMessage, upgrade_from
from serving.dialogs.dialog import Outcome, admit
from serving.dialogs.store import COUNT_DIALOGS, DELETE_OLD, FIND_OLD, make_probe
from serving.dialogs.tasks import GIVE_UP

VALUES = ", ".join(f"${number}" for number, _ in enumerate(StoredMessage._fields, 1))
SCHEMA_LOCK = 0x7475_7269  # any number, for PostgreSQL's lock while the table is created
# Each dialog is locked, so that its messages are stored one after the other, and none while it is deleted. The locks
# come before the statement that reads, which would otherwise not see what was committed while it waited for them.
# Both limits are for the server, which does not notice that a worker has given up or is gone: such a worker would go on
# to wait for a lock, for example that of an ALTER TABLE, or to hold its own.
BEGIN = f"""BEGIN ISOLATION LEVEL READ COMMITTED;
    SET LOCAL lock_timeout = {GIVE_UP * 1000:.0f}; SET LOCAL idle_in_transaction_session_timeout = '2s';
    SELECT pg_advisory_xact_lock(dialog) FROM unnest(ARRAY[{{dialogs}}]::bigint[]) AS dialog"""  # noqa: S608


class _Session(NamedTuple):
    """A connection, and what runs the two statements of an exchange on it."""

    connection: "asyncpg.Connection"
    find: Callable[..., Awaitable[list[asyncpg.Record]]]
    insert: Callable[[Sequence[StoredMessage]], Awaitable[None]]


class PostgresStore:
    """A PostgreSQL database, which any number of processes may share, directly or through a pooler."""

    _FIND = f"SELECT {COLUMNS} FROM messages WHERE id = ANY($1::text[]) OR dialog_id = ANY($2::text[]) ORDER BY seq"  # noqa: S608
    _INSERT = f"INSERT INTO messages ({COLUMNS}, created_at) VALUES ({VALUES}, now())"  # noqa: S608
    _FIND_OLD = FIND_OLD.format(oldest="$1")
    _DELETE_OLD = DELETE_OLD.format(dialog="$1", oldest="$2")

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._session: _Session | None = None
        self._lock = asyncio.Lock()

    def __str__(self) -> str:
        return f"PostgreSQL {self._address.name}"

    async def exchange(self, group: Sequence[StoredMessage], end: str = "COMMIT") -> list[Outcome]:
        """See `Store`; `end` ends the transaction."""
        dialog_ids = list({message.dialog_id for message in group})
        async with self._lock:
            try:
                session = self._session or await self._open_session()
                async with _transaction(session.connection, dialog_ids, end):
                    rows = await session.find([message.id for message in group], dialog_ids)
                    outcomes, new = admit(group, [StoredMessage(*row) for row in rows])
                    if new:
                        await session.insert(new)
            except BaseException:  # a timeout, too: the transaction is still open
                await self.close()
                raise
        return outcomes

    async def probe(self) -> None:
        """See `Store`."""
        await self.exchange([make_probe()], end="ROLLBACK")

    async def delete_some(self, oldest: datetime) -> int:
        """See `Store`. It has a connection of its own, so that messages do not wait for it."""
        async with self._own_connection() as connection:
            async with _transaction(connection):
                found = await connection.fetch(self._FIND_OLD, oldest)
            old = [dialog_id for (dialog_id,) in found]
            async with _transaction(connection, old):
                await connection.executemany(self._DELETE_OLD, [(dialog_id, oldest) for dialog_id in old])
        return len(old)

    async def count(self) -> int:
        """See `Store`. It has a connection of its own."""
        async with self._own_connection() as connection, _transaction(connection):
            return int(await connection.fetchval(COUNT_DIALOGS))

    async def close(self) -> None:
        """See `Store`."""
        if self._session is not None:
            self._session.connection.terminate()  # waits for nothing, whatever the server does
        self._session = None

    @asynccontextmanager
    async def _own_connection(self) -> AsyncIterator["asyncpg.Connection"]:
        """Open a connection beside that of the messages, and close it at the end."""
        connection = await self._connect()
        try:
            yield connection
        finally:
            connection.terminate()

    async def _open_session(self) -> _Session:
        """Connect, bring the table up to date, and prepare the two statements of an exchange."""
        connection = await self._connect()
        self._session = _Session(
            connection, partial(connection.fetch, self._FIND), partial(connection.executemany, self._INSERT)
        )
        if await self._find_version(connection) != VERSION:
            await connection.execute(f"BEGIN; SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
            version = await self._find_version(connection)
            for statement in upgrade_from(version, seq="BIGSERIAL", time="TIMESTAMPTZ"):
                await connection.execute(statement)
            await connection.execute("COMMIT")
        # Behind a pooler such as PgBouncer the next transaction may get another connection of the server, which does
        # not know the statements that were prepared on this one. A pooler gives itself away: the process that it
        # announced is not the one that serves.
        async with _transaction(connection):
            if connection.get_server_pid() == await connection.fetchval("SELECT pg_backend_pid()"):
                find, insert = await connection.prepare(self._FIND), await connection.prepare(self._INSERT)
                self._session = _Session(connection, find.fetch, insert.executemany)
        return self._session

    async def _connect(self) -> "asyncpg.Connection":
        """Connect to the first host that answers within its share of `GIVE_UP` seconds."""
        arguments = self._address.connect_arguments
        hosts = list(zip(arguments["host"], arguments["port"], strict=True))
        failed: Exception = OSError("no host")
        for host, port in hosts:
            place = {"host": host, "port": port, "timeout": GIVE_UP / len(hosts)}
            try:
                # no cache of statements: behind a pooler, the next one may go to another connection of the server
                return await asyncpg.connect(**{**arguments, **place}, statement_cache_size=0)
            except (OSError, asyncpg.PostgresError, asyncpg.TargetServerAttributeNotMatched) as error:
                failed = error
        raise failed

    async def _find_version(self, connection: "asyncpg.Connection") -> int:
        # to_regclass would not see what another process has made while this one waited for the lock
        names = "SELECT relname FROM pg_class WHERE relname LIKE 'messages%' AND pg_table_is_visible(oid)"
        tables = {name for (name,) in await connection.fetch(names)}
        if tables >= {"messages", "messages_version"}:
            return int(await connection.fetchval("SELECT max(version) FROM messages_version"))
        return int("messages" in tables)


@asynccontextmanager
async def _transaction(
    connection: "asyncpg.Connection", dialog_ids: Sequence[str] = (), end: str = "COMMIT"
) -> AsyncIterator[None]:
    """Run a transaction that locks some dialogs, and ends with the statement `end`, COMMIT or ROLLBACK.

    After an error it is left open, as a server that does not answer would not end it either: close the connection.
    """
    await connection.execute(BEGIN.format(dialogs=",".join(map(str, sorted(map(_lock_of, dialog_ids))))))
    yield
    await connection.execute(end)


def _lock_of(dialog_id: str) -> int:
    """Return the number of PostgreSQL's lock for a dialog, 64 bits with a sign."""
    return int.from_bytes(blake2b(dialog_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), signed=True)
