"""The store of dialogs as it is: stopped, frozen, full, read-only, behind PgBouncer, of another version."""

import asyncio
import json
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import pytest
from bentoml.exceptions import BentoMLConfigException

from records.history_url import PostgresAddress, SqliteFile, parse_history_url
from records.messages import VERSION
from serving.dialogs import dialogs as dialogs_module
from serving.dialogs import postgres_store, readiness, sqlite_store
from serving.dialogs.dialogs import Dialogs
from serving.dialogs.postgres_store import PostgresStore
from serving.dialogs.sqlite_store import SqliteStore
from serving.dialogs.tasks import GIVE_UP
from serving.errors import RefusedError
from serving.schemas import PlatformMessage
from tests.conftest import running, wait_until
from tests.faults.client import Connection, Reply, closed_loop
from tests.stores import PgBouncer, PostgreSql, SmallDisk, Sqlite, make_certificate

Store = Sqlite | PostgreSql
SECRET = "the moon is a secret"  # noqa: S105
# as the first version of the service made it
FIRST_TABLE = """CREATE TABLE messages (
    seq {seq} PRIMARY KEY, id VARCHAR(128) NOT NULL UNIQUE, text TEXT NOT NULL, dialog_id VARCHAR(128) NOT NULL,
    participant_index INTEGER NOT NULL, created_at {time} NOT NULL)"""
BASELINE_TABLE = """CREATE TABLE messages (
    id VARCHAR(128) PRIMARY KEY, text TEXT NOT NULL, dialog_id VARCHAR(128) NOT NULL, participant_index INTEGER)"""
READ_ONLY = "ALTER DATABASE postgres SET default_transaction_read_only = on"
END_SESSIONS = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()"
WRITABLE = ("SET default_transaction_read_only = off", "ALTER DATABASE postgres RESET default_transaction_read_only")

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSql]:
    made = PostgreSql()
    made.start()
    yield made
    made.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return an empty store."""
    if request.param == "postgresql":
        shared: PostgreSql = request.getfixturevalue("postgresql")
        shared.empty()
        yield shared
    else:
        made = Sqlite()
        yield made
        made.remove()


@asynccontextmanager
async def opened(url: str, days: float | None = None) -> AsyncIterator[Dialogs]:
    dialogs = Dialogs(url, days)
    try:
        yield dialogs
    finally:
        await dialogs.close()
        await asyncio.sleep(0.05)  # a transport that was aborted closes its socket in a later turn of the event loop


def message(text: str = SECRET, dialog: str | None = None, **other: Any) -> PlatformMessage:
    """Return a message that is not validated: what gets past the edge by mistake is part of what is tested here."""
    fields = {"dialog_id": dialog or str(uuid4()), "id": str(uuid4()), "participant_index": 0, **other}
    return PlatformMessage.model_construct(text=text, **fields)


async def status_of(answer: Awaitable[object]) -> int:
    """Return the status that a message is answered with."""
    try:
        await answer
    except RefusedError as error:
        return error.status
    return 200


async def statuses_of(dialogs: Dialogs, messages: list[PlatformMessage]) -> list[int]:
    return list(await asyncio.gather(*(status_of(dialogs.store_message(one)) for one in messages)))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe stores more often, and wait for them as long as a busy machine takes, if a test is not about that."""
    monkeypatch.setattr(readiness, "PROBE_EVERY", 0.05)
    wait_for_stores(monkeypatch, 60)


def wait_for_stores(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in (dialogs_module, readiness, sqlite_store, postgres_store):
        monkeypatch.setattr(module, "GIVE_UP", seconds)
    monkeypatch.setattr(sqlite_store, "LOCK_SECONDS", seconds - 0.5)


async def becomes(dialogs: Dialogs, is_ready: bool, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while await dialogs.is_ready() is not is_ready:
        assert time.monotonic() < deadline, f"is_ready() was not {is_ready} within {seconds} s"
        await asyncio.sleep(0.05)


def test_closing_stops_what_is_going_on(store: Store) -> None:
    async def tell() -> None:
        dialogs = Dialogs(store.url, days=1)
        dialogs.start_upkeep()
        assert await status_of(dialogs.store_message(message())) == 200
        callers = {asyncio.create_task(status_of(dialogs.store_message(message()))) for _ in range(5)}
        await asyncio.sleep(0)
        await dialogs.close()
        assert asyncio.all_tasks() - {asyncio.current_task(), *callers} == set()
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)

    asyncio.run(tell())


@pytest.mark.postgresql
def test_what_the_encoding_of_the_database_lacks_is_refused_alone(
    postgresql: PostgreSql, caplog: pytest.LogCaptureFixture
) -> None:
    postgresql.query(
        "DROP DATABASE IF EXISTS latin", "CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'"
    )
    sent = [message(f"{SECRET} {'😀' if number % 15 == 7 else 'é'}") for number in range(113)]

    async def tell() -> list[int]:
        async with opened(postgresql.url_of(database="latin")) as dialogs:
            assert await dialogs.is_ready()
            return await statuses_of(dialogs, sent)

    statuses = asyncio.run(tell())
    assert statuses == [400 if "😀" in one.text else 200 for one in sent]
    assert postgresql.query("SELECT count(*) FROM messages", database="latin") == ["105"]
    assert "UntranslatableCharacterError" in caplog.text
    assert SECRET not in caplog.text


def test_an_id_that_came_in_with_other_content_meanwhile_is_a_conflict(store: Store) -> None:
    """Two processes store the same id in different dialogs at the same time: one of them is first."""

    async def tell() -> list[list[int]]:
        async with opened(store.url) as first, opened(store.url) as second:
            answers = []
            for _ in range(20):
                name = str(uuid4())
                both = [dialogs.store_message(message(id=name)) for dialogs in (first, second)]
                answers.append(sorted(await asyncio.gather(*map(status_of, both))))
            return answers

    assert asyncio.run(tell()) == [[200, 409]] * 20


# A store that cannot be written


async def is_refused_and_recovers(dialogs: Dialogs, begin: Callable[[], object], end: Callable[[], object]) -> None:
    """Check that messages are refused and the store is not ready in between, and that both end by themselves."""
    await becomes(dialogs, True)
    assert await status_of(dialogs.store_message(message())) == 200
    begin()
    try:
        await becomes(dialogs, False)
        assert await statuses_of(dialogs, [message() for _ in range(3)]) == [503] * 3
        await asyncio.sleep(0.1)
        assert not await dialogs.is_ready()
    finally:
        end()
    await becomes(dialogs, True)
    assert await status_of(dialogs.store_message(message())) == 200


def check(url: str, begin: Callable[[], object], end: Callable[[], object]) -> None:
    async def tell() -> None:
        async with opened(url) as dialogs:
            await is_refused_and_recovers(dialogs, begin, end)

    asyncio.run(tell())


def session_of(dialogs: Dialogs) -> asyncpg.Connection:
    store = dialogs._store
    assert isinstance(store, PostgresStore)
    assert store._session
    return store._session.connection


def test_a_probe_leaves_nothing_behind(store: Store) -> None:
    async def tell() -> None:
        async with opened(store.url) as dialogs:
            assert await dialogs.is_ready()

    asyncio.run(tell())
    assert store.query("SELECT count(*) FROM messages") == ["0"]


@pytest.mark.mount
def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bentoml.dialogs")
    with SmallDisk(tmp_path) as disk:
        check(f"sqlite:///{tmp_path}/dialogs.sqlite", disk.fill, disk.clear)
    store = f"SQLite {tmp_path}/dialogs.sqlite"
    assert f"{store}: messages cannot be stored: OperationalError: database or disk is full" in caplog.messages
    assert caplog.messages.count(f"{store}: messages can be stored again") == 1


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("begin", "end", "error"),
    [
        # sessions that began while it was read-only stay so: only new ones see the end of it
        ((READ_ONLY, END_SESSIONS), WRITABLE, "ReadOnlySQLTransactionError: cannot execute"),
        (["REVOKE INSERT ON messages FROM writer"], ["GRANT INSERT ON messages TO writer"], "permission denied"),
    ],
    ids=["read-only", "without a privilege"],
)
def test_a_server_that_refuses_to_store(
    postgresql: PostgreSql, caplog: pytest.LogCaptureFixture, begin: list[str], end: list[str], error: str
) -> None:
    asyncio.run(checked(postgresql.url))
    if not postgresql.query("SELECT 1 FROM pg_roles WHERE rolname = 'writer'"):
        postgresql.query("CREATE ROLE writer LOGIN")
    # the least that storing messages takes
    postgresql.query(
        "GRANT SELECT, INSERT ON messages TO writer",
        "GRANT SELECT ON messages_version TO writer",
        "GRANT USAGE ON SEQUENCE messages_seq_seq TO writer",
    )
    check(postgresql.url_of(user="writer"), lambda: postgresql.query(*begin), lambda: postgresql.query(*end))
    assert error in caplog.text


@pytest.mark.postgresql
def test_a_transaction_that_the_server_ended_is_tried_again(
    postgresql: PostgreSql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is busy for longer than the server lets a transaction be idle."""
    busy = iter([True])
    begin = postgres_store._transaction

    @asynccontextmanager
    async def begin_and_be_busy(connection: Any, *arguments: Any) -> AsyncIterator[None]:
        async with begin(connection, *arguments):
            if next(busy, False):
                wait_until(lambda: postgresql.query(f"{SESSIONS} AND state LIKE 'idle in transaction%'") == ["0"])
            yield

    async def tell() -> None:
        async with opened(postgresql.url) as dialogs:
            await becomes(dialogs, True)
            monkeypatch.setattr(postgres_store, "_transaction", begin_and_be_busy)
            assert await status_of(dialogs.store_message(message())) == 200
            assert next(busy, None) is None

    monkeypatch.setattr(postgres_store, "BEGIN", postgres_store.BEGIN.replace("'2s'", "'100ms'"))
    asyncio.run(tell())


@pytest.mark.postgresql
@pytest.mark.parametrize("notices", [False, True], ids=["at once", "later"])
def test_sessions_that_the_server_has_closed_cost_no_message(postgresql: PostgreSql, notices: bool) -> None:
    async def tell() -> None:
        async with opened(postgresql.url) as dialogs:
            for _ in range(3):
                assert await statuses_of(dialogs, [message() for _ in range(3)]) == [200] * 3
                postgresql.query(END_SESSIONS)
                while notices and not session_of(dialogs).is_closed():
                    await asyncio.sleep(0.01)
            assert await dialogs.is_ready()

    asyncio.run(tell())


SLOW_SYNC = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>

static void be_slow(void) {
    const char *slow = getenv("SLOW_DISK");
    if (slow && access(slow, F_OK) == 0) {
        int log = open(slow, O_WRONLY | O_APPEND);
        if (write(log, ".", 1) == 1)
            close(log);
        sleep(2);
    }
}

int fsync(int file) { be_slow(); return syscall(SYS_fsync, file); }
int fdatasync(int file) { be_slow(); return syscall(SYS_fdatasync, file); }
"""


@pytest.mark.compiler
def test_messages_do_not_wait_for_a_slow_disk(tmp_path: Path) -> None:
    """Each sync takes 2 seconds from some time on, longer than a message waits for the store.

    On a fast disk, SQLite's log is overwritten again and again: without that, it has 150 MB after five seconds.
    """
    library, slow = tmp_path / "slow.so", tmp_path / "slow"
    source = library.with_suffix(".c")
    source.write_text(SLOW_SYNC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    file = tmp_path / "dialogs.sqlite"

    async def say(connection: Connection) -> Reply:
        sent = {"text": "hi " * 100, "dialog_id": str(uuid4()), "id": str(uuid4()), "participant_index": 0}
        return await connection.post("/predict", json.dumps(sent).encode())

    with running(tmp_path, LD_PRELOAD=str(library), SLOW_DISK=str(slow), HISTORY_URL=f"sqlite:///{file}") as served:
        before = asyncio.run(closed_loop(served.url, 16, 5, say))
        assert Path(f"{file}-wal").stat().st_size < 60_000_000
        slow.touch()
        replies = asyncio.run(closed_loop(served.url, 4, 5, say))
        waited = slow.stat().st_size
        slow.unlink()
        after = asyncio.run(closed_loop(served.url, 4, 2, say))
    assert {reply.status for reply in before + replies + after} == {200}
    assert waited


@pytest.mark.service
def test_the_log_of_sqlite_is_emptied_on_a_disk_that_is_always_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "SLOW_DISK", 0)
    monkeypatch.setattr(sqlite_store, "LOG_BYTES", 100_000)
    monkeypatch.setattr(sqlite_store, "MAX_LOG_BYTES", 1_000_000)
    monkeypatch.setattr(sqlite_store, "CHECKPOINT_EVERY", 0)
    store = Sqlite()
    log = Path(f"{store.file}-wal")

    async def tell() -> None:
        sizes = [0]
        async with opened(store.url) as dialogs:
            while sum(after < before for before, after in pairwise(sizes)) < 2:  # how often it was emptied
                assert await statuses_of(dialogs, [message("x" * 8_000) for _ in range(4)]) == [200] * 4
                sizes.append(log.stat().st_size)
        assert max(sizes) > 1_000_000

    asyncio.run(tell())
    assert not log.exists()
    store.remove()


def test_a_process_that_writes_or_makes_the_table_is_waited_for() -> None:
    made = Sqlite()
    store = SqliteStore(SqliteFile(made.file))

    async def tell() -> None:
        for _ in range(2):
            made.stop()
            waiting = asyncio.create_task(store.probe())
            await asyncio.sleep(0.2)
            assert not waiting.done()
            made.start()
            await waiting
        await store.close()

    asyncio.run(tell())
    made.remove()


def test_a_lock_that_stays_is_the_reason_in_the_log_and_the_connection_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wait_for_stores(monkeypatch, GIVE_UP)
    made = Sqlite()

    async def tell() -> None:
        async with opened(made.url) as dialogs:
            assert await status_of(dialogs.store_message(message())) == 200
            store = dialogs._store
            assert isinstance(store, SqliteStore)
            before = store._connection
            made.stop()
            assert await status_of(dialogs.store_message(message())) == 503
            made.start()
            assert await status_of(dialogs.store_message(message())) == 200
            assert store._connection is before

    asyncio.run(tell())
    assert [line.partition(": ")[2] for line in caplog.messages] == [
        "1 messages were not stored: OperationalError: database is locked"
    ]
    made.remove()


def test_messages_do_not_wait_for_the_search_for_old_dialogs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    monkeypatch.setattr(SqliteStore, "_FIND_OLD", f"{numbers} WHERE ?1 IS NOT NULL")
    monkeypatch.setattr(PostgresStore, "_FIND_OLD", "SELECT pg_sleep(1000) WHERE $1::timestamptz IS NOT NULL")

    async def tell() -> None:
        async with opened(store.url, days=1) as dialogs:
            dialogs.start_upkeep()
            for _ in range(20):
                assert await status_of(dialogs.store_message(message())) == 200
            assert dialogs._upkeep
            assert not dialogs._upkeep.done()

    asyncio.run(tell())


def test_old_dialogs_are_deleted_in_parts(store: Store) -> None:
    """All but those that have got a message since."""
    old, new = "2020-01-01 00:00:00.000000", "2100-01-01 00:00:00.000000"
    said = [(f"d{number}", old) for number in range(50)] * 2 + [("goes on", old), ("goes on", new), ("new", new)]
    rows = ",".join(f"('{at}', 'x', '{dialog}', 0, '{when}')" for at, (dialog, when) in enumerate(said))

    async def tell() -> list[int]:
        async with opened(store.url) as dialogs:
            await becomes(dialogs, True)
            execute(store, f"INSERT INTO messages (id, text, dialog_id, participant_index, created_at) VALUES {rows}")  # noqa: S608
            day = datetime(2025, 1, 1, tzinfo=UTC)
            return [await dialogs._store.delete_some(day) for _ in range(4)]

    assert asyncio.run(tell()) == [20, 20, 10, 0]
    assert store.query("SELECT dialog_id FROM messages ORDER BY seq") == ["goes on", "goes on", "new"]


def postgres_store_of(postgresql: PostgreSql) -> PostgresStore:
    address = parse_history_url(postgresql.url)
    assert isinstance(address, PostgresAddress)
    return PostgresStore(address)


@pytest.mark.postgresql
def test_a_dialog_that_goes_on_while_it_is_deleted_stays_as_a_whole(postgresql: PostgreSql) -> None:
    """The message is in the table, but not committed, when the old dialog is deleted."""
    postgresql.empty()
    storing, deleting = postgres_store_of(postgresql), postgres_store_of(postgresql)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    async def tell() -> None:
        await storing.probe()
        postgresql.query(
            "INSERT INTO messages (id, text, dialog_id, participant_index, created_at)"
            " VALUES ('first', 'hi', 'goes-on', 0, '2020-01-01'), ('other', 'hi', 'ended', 0, '2020-01-01')"
        )
        session = storing._session
        assert session
        async with postgres_store._transaction(session.connection, ["goes-on"]):
            await session.insert(["second"], ["hi"], ["goes-on"], [0])
            deletion = asyncio.create_task(deleting.delete_some(datetime.now(UTC) - timedelta(days=1)))
            while await asyncio.to_thread(postgresql.query, waiting) == ["0"] and not deletion.done():
                await asyncio.sleep(0)
        assert await deletion == 2
        await storing.close()

    asyncio.run(tell())
    assert postgresql.query("SELECT id FROM messages ORDER BY seq") == ["first", "second"]


@pytest.mark.postgresql
def test_a_locked_table_collects_no_sessions(postgresql: PostgreSql, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_stores(monkeypatch, GIVE_UP)

    async def tell() -> None:
        async with opened(postgresql.url) as dialogs:
            await becomes(dialogs, True)
            locker = await asyncpg.connect(postgresql.url)
            await locker.execute("BEGIN; LOCK TABLE messages")
            for _ in range(4):
                assert await status_of(dialogs.store_message(message())) == 503
            # one that waits for its lock to time out, and one that comes after it
            assert int(postgresql.query(SESSIONS)[0]) <= 1 + 3
            await locker.close()
            await becomes(dialogs, True)

    asyncio.run(tell())


@pytest.mark.postgresql
@pytest.mark.parametrize("answer", ["nothing", "no TLS", "the end"])
def test_a_host_that_does_not_serve_is_passed_over(
    postgresql: PostgreSql, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """Its port takes connections, and answers nothing, refuses TLS and closes, or closes."""
    monkeypatch.setattr(postgres_store, "GIVE_UP", GIVE_UP)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer == "nothing":
            await reader.read()
        elif answer == "no TLS":
            await reader.read(8)
            writer.write(b"N")
        writer.close()

    async def tell() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as other:
            port = other.sockets[0].getsockname()[1]
            async with opened(postgresql.url.replace("@", f"@127.0.0.1:{port},", 1)) as dialogs:
                assert await dialogs.is_ready()
                assert await status_of(dialogs.store_message(message())) == 200

    asyncio.run(tell())


@pytest.mark.postgresql
def test_the_first_answer_of_a_frozen_server_comes_in_time(
    postgresql: PostgreSql, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert GIVE_UP < 2

    async def tell() -> None:
        async with opened(postgresql.url) as dialogs:
            assert await status_of(dialogs.store_message(message())) == 200
            wait_for_stores(monkeypatch, GIVE_UP)
            postgresql.freeze()
            try:
                assert await statuses_of(dialogs, [message() for _ in range(100)]) == [503] * 100
                assert await status_of(dialogs.store_message(message())) == 503
                assert not await dialogs.is_ready()
            finally:
                postgresql.thaw()
            wait_for_stores(monkeypatch, 60)
            await becomes(dialogs, True)
            assert await statuses_of(dialogs, [message() for _ in range(100)]) == [200] * 100

    asyncio.run(tell())
    assert "no answer within 1.5 seconds" in caplog.text


# PgBouncer


@pytest.mark.postgresql
@pytest.mark.pgbouncer
def test_pgbouncer_in_transaction_mode(postgresql: PostgreSql, caplog: pytest.LogCaptureFixture) -> None:
    async def tell(url: str) -> None:
        async with opened(url) as one, opened(url) as two, opened(url) as three, opened(url) as four:
            clients = (one, two, three, four)
            for _ in range(5):
                probes = asyncio.gather(*(dialogs.is_ready() for dialogs in clients))
                sent = [status_of(dialogs.store_message(message())) for dialogs in clients for _ in range(6)]
                assert await asyncio.gather(*sent) == [200] * 24
                assert await probes == [True] * 4
                await asyncio.sleep(0.1)

    with PgBouncer(postgresql) as pooler:
        asyncio.run(tell(pooler.url))
    assert not caplog.messages


# Versions of the table


def made_before(store: Store) -> None:
    """Make the table as the first version of the service did, with a message in it."""
    is_sqlite = isinstance(store, Sqlite)
    table = FIRST_TABLE.format(
        seq="INTEGER" if is_sqlite else "BIGSERIAL", time="DATETIME" if is_sqlite else "TIMESTAMPTZ"
    )
    told = "INSERT INTO messages VALUES (7, 'first', 'hello', 'old dialog', 0, '2025-01-01 10:00:00.000000')"
    execute(store, table, "CREATE INDEX messages_of_dialog ON messages (dialog_id, seq)", told)
    if not is_sqlite:
        execute(store, "SELECT setval('messages_seq_seq', 7)")


def execute(store: Store, *statements: str) -> None:
    if isinstance(store, PostgreSql):
        store.query(*statements)
        return
    with closing(sqlite3.connect(store.file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def indexes(store: Store) -> list[str]:
    catalog = "sqlite_master WHERE type = 'index'" if isinstance(store, Sqlite) else "pg_indexes"
    name = "name" if isinstance(store, Sqlite) else "indexname"
    return store.query(f"SELECT {name} FROM {catalog}")  # noqa: S608


async def checked(url: str) -> None:
    async with opened(url) as dialogs:
        await dialogs.check()


def test_a_table_of_the_first_version_is_brought_up_to_date(store: Store) -> None:
    asyncio.run(checked(store.url))
    fresh = sorted(indexes(store))
    store.empty()
    made_before(store)

    async def tell() -> list[str]:
        async with opened(store.url) as one, opened(store.url) as other:
            assert all(await asyncio.gather(one.is_ready(), other.is_ready()))
            chat = await one.store_message(message("and now?", "old dialog"))
        return [said.text for said in chat.messages]

    assert asyncio.run(tell()) == ["hello", "and now?"]
    assert store.query("SELECT version FROM messages_version") == [str(VERSION)]
    assert sorted(indexes(store)) == fresh
    # 0.1.0, which knows version 2 at most and inserts these columns alone, can go on with the table
    assert VERSION == 2
    columns = "id, text, dialog_id, participant_index, created_at"
    execute(store, f"INSERT INTO messages ({columns}) VALUES ('old', 'hi', 'dialog', 0, '2026-11-27 10:00:00.000000')")  # noqa: S608


def test_a_table_of_a_newer_version_stops_the_start(store: Store) -> None:
    asyncio.run(checked(store.url))
    execute(store, f"UPDATE messages_version SET version = {VERSION + 1}")  # noqa: S608
    why = f"has version {VERSION + 1}, and this service knows {VERSION} at most"
    with pytest.raises(BentoMLConfigException, match=f"^cannot store dialogs in .* {why}$"):
        asyncio.run(checked(store.url))


def test_the_table_of_another_service_is_left_alone(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    execute(store, BASELINE_TABLE)
    before = indexes(store)

    async def tell() -> None:
        async with opened(store.url) as dialogs:
            await dialogs.check()
            assert not await dialogs.is_ready()

    asyncio.run(tell())
    assert len(caplog.messages) == 2
    assert all("created_at" in line for line in caplog.messages)
    assert indexes(store) == before


def test_a_file_that_is_no_database_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "dialogs.sqlite"
    file.write_text("no database " * 100)
    with pytest.raises(BentoMLConfigException, match=r"cannot store dialogs in SQLite .*: file is not a database"):
        asyncio.run(Dialogs(f"sqlite:///{file}").check())


def test_a_file_system_without_wal_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Network file systems lack what WAL needs; so does this layer of SQLite's own."""
    connect = sqlite3.connect

    def connect_with_dotfile(file: Path, **options: Any) -> Any:
        return connect(f"file:{file}?vfs=unix-dotfile", uri=True, **options)

    monkeypatch.setattr(sqlite3, "connect", connect_with_dotfile)
    with pytest.raises(
        BentoMLConfigException, match=r"cannot store dialogs in SQLite .*: the file system does not support"
    ):
        asyncio.run(Dialogs(f"sqlite:///{tmp_path}/dialogs.sqlite").check())


def test_a_store_that_is_down_does_not_stop_the_start(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(checked("postgresql://dialogs:pass@127.0.0.1:1/postgres"))
    (line,) = caplog.messages
    assert line.startswith("PostgreSQL 127.0.0.1:1/postgres: messages cannot be stored yet: ConnectionRefusedError: ")
    assert "pass" not in line


# TLS and passwords


@pytest.fixture(scope="module")
def secured() -> Iterator[tuple[PostgreSql, Path]]:
    """Return a PostgreSQL that lets in who speaks TLS with a password, and its certificate, which is for localhost."""
    made = PostgreSql()
    made.start()
    certificate = made.use_tls("localhost")
    made.query("SET password_encryption = 'scram-sha-256'", f"ALTER ROLE dialogs PASSWORD '{PASSWORD}'")
    made.authenticate("hostssl all all 127.0.0.1/32 scram-sha-256")
    yield made, certificate
    made.remove()


PASSWORD = "p/a#s@s?w:o%r[d] 1$"  # noqa: S105


async def becomes_ready(url: str) -> bool:
    async with opened(url) as dialogs:
        ready = await dialogs.is_ready()
        assert await status_of(dialogs.store_message(message())) == (200 if ready else 503)
        return ready


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("host", "parameters", "ready"),
    [
        ("127.0.0.1", "", True),  # as libpq does: TLS where the server has it
        ("127.0.0.1", "?sslmode=require", True),
        ("127.0.0.1", "?ssl=true&application_name=chats&connect_timeout=10", True),
        ("127.0.0.1", "?sslmode=require&options=-c%20search_path%3Dpublic&target_session_attrs=read-write", True),
        ("127.0.0.1", "?sslmode=disable", False),
        ("localhost", "?sslmode=verify-full&sslrootcert={certificate}", True),
        ("127.0.0.1", "?sslmode=verify-ca&sslrootcert={certificate}", True),
        ("127.0.0.1", "?sslmode=verify-full&sslrootcert={certificate}", False),  # the certificate is for localhost
        ("localhost", "?sslmode=verify-full&sslrootcert={other}", False),
        ("localhost", "?sslmode=verify-full&sslrootcert=system", False),
    ],
)
def test_tls_and_a_password_of_special_characters(
    secured: tuple[PostgreSql, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    host: str,
    parameters: str,
    ready: bool,
) -> None:
    server, certificate = secured
    other, key = tmp_path / "other.crt", tmp_path / "other.key"
    make_certificate("other", other, key)
    url = server.url_of(user=f"dialogs:{quote(PASSWORD, safe='')}", host=host)
    url += parameters.format(certificate=certificate, other=other)
    assert asyncio.run(becomes_ready(url)) is ready
    assert len(caplog.messages) == (0 if ready else 2)  # of the probe, and of the message
    assert PASSWORD not in caplog.text
