"""The store of dialogs as it is: stopped, frozen, full, read-only, behind PgBouncer, of another version."""

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import pytest
from bentoml.exceptions import BentoMLConfigException

from records.history_url import PostgresAddress, parse_history_url
from records.messages import VERSION, StoredMessage
from serving.dialogs import dialog, postgres_store, readiness, sqlite_store, upkeep
from serving.dialogs import dialogs as dialogs_module
from serving.dialogs.dialogs import Dialogs
from serving.dialogs.postgres_store import PostgresStore
from serving.dialogs.sqlite_store import SqliteStore, prepare_file
from serving.dialogs.tasks import GIVE_UP
from serving.errors import RefusedError
from serving.schemas import PlatformMessage
from tests.conftest import Reply, running, wait_until
from tests.faults.client import Connection, closed_loop
from tests.stores import BOTH, PostgreSql, SmallDisk, Sqlite, Store, empty_store, make_certificate, pgbouncer

SECRET = "the moon is a secret"  # noqa: S105
PASSWORD = "p/a#s@s?w:o%r[d] 1$"  # noqa: S105
BASELINE_TABLE = """CREATE TABLE messages (
    id VARCHAR(128) PRIMARY KEY, text TEXT NOT NULL, dialog_id VARCHAR(128) NOT NULL, participant_index INTEGER)"""
INSERT = "INSERT INTO messages (id, text, dialog_id, participant_index, created_at) VALUES "
END_SESSIONS = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND pid <> pg_backend_pid()"

pytestmark = pytest.mark.faults


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return empty_store(request, tmp_path)


@pytest.fixture
def sqlite(tmp_path: Path) -> Sqlite:
    return Sqlite(tmp_path)


@asynccontextmanager
async def opened(url: str, days: float | None = None) -> AsyncIterator[Dialogs]:
    dialogs = Dialogs(parse_history_url(url), days)
    try:
        yield dialogs
    finally:
        await dialogs.close()
        await asyncio.sleep(0.05)  # a transport that was aborted closes its socket in a later turn of the event loop


@pytest.fixture
async def dialogs(store: Store) -> AsyncIterator[Dialogs]:
    async with opened(store.url) as made:
        yield made


async def check(url: str) -> None:
    async with opened(url) as dialogs:
        await dialogs.check()


def message(text: str = SECRET, **other: str) -> PlatformMessage:
    """Return a message of a dialog of its own."""
    fields: dict[str, Any] = {"dialog_id": str(uuid4()), "id": str(uuid4()), "participant_index": 0, **other}
    return PlatformMessage(text=text, **fields)


async def status_of(answer: Awaitable[object]) -> int:
    """Return the status that a message is answered with."""
    try:
        await answer
    except RefusedError as error:
        return error.status
    return 200


async def store_all(dialogs: Dialogs, messages: list[PlatformMessage]) -> list[int]:
    """Store messages at the same time; returns their statuses."""
    return list(await asyncio.gather(*(status_of(dialogs.store_message(one)) for one in messages)))


async def store_some(dialogs: Dialogs, number: int = 1) -> set[int]:
    """Store messages of dialogs of their own at the same time; returns which statuses there were."""
    return set(await store_all(dialogs, [message() for _ in range(number)]))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe stores more often, and wait for them as long as a busy machine takes, if a test is not about that."""
    monkeypatch.setattr(readiness, "PROBE_EVERY", 0.05)
    wait_for_stores(monkeypatch, 60)


def wait_for_stores(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in (dialogs_module, readiness, sqlite_store, postgres_store):
        monkeypatch.setattr(module, "GIVE_UP", seconds)
    monkeypatch.setattr(sqlite_store, "LOCK_SECONDS", seconds - 0.1)


async def becomes_ready(dialogs: Dialogs) -> None:
    deadline = time.monotonic() + 60
    while not await dialogs.is_ready():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.postgresql
async def test_what_the_encoding_of_the_database_lacks_is_refused_alone(
    postgresql: PostgreSql, caplog: pytest.LogCaptureFixture
) -> None:
    postgresql.query(
        "DROP DATABASE IF EXISTS latin", "CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'"
    )
    sent = [message(f"{SECRET} {'😀' if number % 15 == 7 else 'é'}") for number in range(113)]
    async with opened(postgresql.url_of(database="latin")) as dialogs:
        assert await store_all(dialogs, sent) == [400 if "😀" in one.text else 200 for one in sent]
    assert postgresql.query("SELECT count(*) FROM messages", database="latin") == ["105"]
    assert "UntranslatableCharacterError" in caplog.text
    assert SECRET not in caplog.text


async def test_an_id_that_came_in_with_other_content_meanwhile_is_a_conflict(store: Store, dialogs: Dialogs) -> None:
    """Two processes store the same id in different dialogs at the same time: one of them is first."""
    async with opened(store.url) as others:
        for _ in range(20):
            name = str(uuid4())
            both = [status_of(one.store_message(message(id=name))) for one in (dialogs, others)]
            assert sorted(await asyncio.gather(*both)) == [200, 409]


# A store that cannot be written


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path) as small:
        yield small


@pytest.fixture
async def writer(postgresql: PostgreSql) -> PostgreSql:
    """Return a PostgreSQL with a user `writer`, who has the least that storing messages takes."""
    postgresql.empty()
    await check(postgresql.url)
    postgresql.query(
        "DROP ROLE IF EXISTS writer",
        "CREATE ROLE writer LOGIN",
        "GRANT SELECT, INSERT ON messages TO writer",
        "GRANT SELECT ON messages_version TO writer",
        "GRANT USAGE ON SEQUENCE messages_seq_seq TO writer",
    )
    return postgresql


def by(*statements: str) -> Callable[[Store], object]:
    return lambda store: store.query(*statements)


Act = Callable[[Any], object]
FAULTS: dict[str, tuple[str, Act, Act, str]] = {
    "locked": ("sqlite", Sqlite.stop, Sqlite.start, "OperationalError: database is locked"),
    "full": ("disk", SmallDisk.fill, SmallDisk.clear, "OperationalError: database or disk is full"),
    "frozen": ("writer", PostgreSql.freeze, PostgreSql.thaw, f"TimeoutError: no answer within {GIVE_UP} seconds"),
    "read-only": (  # sessions that began before go on as they began
        "writer",
        by("ALTER DATABASE postgres SET default_transaction_read_only = on", END_SESSIONS),
        by("SET default_transaction_read_only = off", "ALTER DATABASE postgres RESET default_transaction_read_only"),
        "ReadOnlySQLTransactionError: cannot execute INSERT in a read-only transaction",
    ),
    "without a privilege": (
        "writer",
        by("REVOKE INSERT ON messages FROM writer"),
        by("GRANT INSERT ON messages TO writer"),
        "InsufficientPrivilegeError: permission denied for table messages",
    ),
}
NEEDED = {"sqlite": [], "disk": [pytest.mark.mount], "writer": [pytest.mark.postgresql]}


@pytest.fixture(params=[pytest.param(fault, marks=NEEDED[FAULTS[fault][0]]) for fault in FAULTS])
def fault(request: pytest.FixtureRequest) -> tuple[Any, Act, Act, str]:
    place, *rest = FAULTS[request.param]
    return request.getfixturevalue(place), *rest


@pytest.mark.service
async def test_messages_are_refused_in_time_while_they_cannot_be_stored(
    fault: tuple[Any, Act, Act, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And `/readyz` is 503 until then; the log says why, once for `/readyz`, and shows no text."""
    store, begin, end, reason = fault
    caplog.set_level("INFO", "bentoml.dialogs")
    async with opened(store.url_of(user="writer") if isinstance(store, PostgreSql) else store.url) as dialogs:
        assert await store_some(dialogs) == {200}
        wait_for_stores(monkeypatch, GIVE_UP)
        begin(store)
        try:
            async with asyncio.timeout(2):  # as is promised
                assert await store_some(dialogs, 100) == {503}
            assert await store_some(dialogs) == {503}
            assert not await dialogs.is_ready()
        finally:
            end(store)
        wait_for_stores(monkeypatch, 60)
        await becomes_ready(dialogs)
        assert await store_some(dialogs, 100) == {200}
    said = [line.partition("messages ")[2] for line in caplog.messages]
    assert f"were not stored: {reason}" in said
    of_readiness = [line.partition(":")[0] for line in said if not line.startswith("were")]
    assert of_readiness == ["cannot be stored", "can be stored again"]
    assert SECRET not in caplog.text


@pytest.mark.postgresql
async def test_a_locked_table_collects_no_sessions(postgresql: PostgreSql, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_stores(monkeypatch, GIVE_UP)
    async with opened(postgresql.url) as dialogs:
        await becomes_ready(dialogs)
        locker = await asyncpg.connect(postgresql.url)
        await locker.execute("BEGIN; LOCK TABLE messages")
        for _ in range(4):
            assert await store_some(dialogs) == {503}
        # one that waits for its lock to time out, and one that comes after it
        assert int(postgresql.query(SESSIONS)[0]) <= 1 + 3
        await locker.close()
        await becomes_ready(dialogs)


@pytest.mark.postgresql
@pytest.mark.parametrize("when", ["before", "noticed before", "within", "idle for too long"])
async def test_sessions_that_the_server_ends_cost_no_message(
    postgresql: PostgreSql, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Before a transaction, or within one while the worker is busy."""
    ends = iter([when])

    def end_and_admit(*arguments: Any) -> Any:
        match next(ends, None):
            case "within":
                postgresql.query(END_SESSIONS)
            case "idle for too long":
                wait_until(lambda: postgresql.query(f"{SESSIONS} AND state LIKE 'idle in transaction%'") == ["0"])
        return dialog.admit(*arguments)

    monkeypatch.setattr(postgres_store, "BEGIN", postgres_store.BEGIN.replace("'2s'", "'100ms'"))
    async with opened(postgresql.url) as dialogs:
        await becomes_ready(dialogs)
        if "before" in when:
            store = dialogs._store
            assert isinstance(store, PostgresStore)
            assert store._session
            postgresql.query(END_SESSIONS)
            while when == "noticed before" and not store._session.connection.is_closed():
                await asyncio.sleep(0.01)
        monkeypatch.setattr(postgres_store, "admit", end_and_admit)
        assert await store_some(dialogs, 3) == {200}
        assert await dialogs.is_ready()


@pytest.mark.postgresql
@pytest.mark.parametrize("answer", ["nothing", "no TLS", "the end"])
async def test_a_host_that_does_not_serve_is_passed_over(
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

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with opened(postgresql.url.replace("@", f"@127.0.0.1:{port},", 1)) as dialogs:
            assert await dialogs.is_ready()
            assert await store_some(dialogs) == {200}


@pytest.mark.postgresql
@pytest.mark.pgbouncer
async def test_pgbouncer_in_transaction_mode(
    postgresql: PostgreSql, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pgbouncer(postgresql, tmp_path) as url:
        async with opened(url) as one, opened(url) as two, opened(url) as three, opened(url) as four:
            clients = (one, two, three, four)
            await becomes_ready(one)
            caplog.clear()  # while it starts
            for _ in range(5):
                probes = asyncio.gather(*(dialogs.is_ready() for dialogs in clients))
                assert await asyncio.gather(*(store_some(dialogs, 6) for dialogs in clients)) == [{200}] * 4
                assert await probes == [True] * 4
            assert not caplog.messages


async def test_a_process_that_writes_or_makes_the_table_is_waited_for(sqlite: Sqlite) -> None:
    async with opened(sqlite.url) as dialogs:
        for _ in range(2):
            sqlite.stop()
            waiting = asyncio.create_task(store_some(dialogs))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            sqlite.start()
            assert await waiting == {200}


SLOW_SYNC = r"""
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>

static int sync_slowly(int call, int file) {
    const char *slow = getenv("SLOW_DISK");
    if (slow && access(slow, F_OK) == 0 && truncate(slow, 1) == 0)
        sleep(2);
    return syscall(call, file);
}

int fsync(int file) { return sync_slowly(SYS_fsync, file); }
int fdatasync(int file) { return sync_slowly(SYS_fdatasync, file); }
"""


@pytest.mark.compiler
def test_messages_do_not_wait_for_a_slow_disk(tmp_path: Path) -> None:
    """Each sync takes 2 seconds from some time on, longer than a message waits for the store."""
    library, slow = tmp_path / "slow.so", tmp_path / "slow"
    source = library.with_suffix(".c")
    source.write_text(SLOW_SYNC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)

    async def say(connection: Connection) -> Reply:
        sent = {"text": "hi " * 2_600, "dialog_id": str(uuid4()), "id": str(uuid4()), "participant_index": 0}
        return await connection.post("/predict", json.dumps(sent).encode())

    with running(tmp_path, LD_PRELOAD=str(library), SLOW_DISK=str(slow)) as served:
        slow.touch()
        replies = []
        while slow.stat().st_size == 0:  # until the log is moved
            replies += asyncio.run(closed_loop(served.url, 4, 1, say))
        replies += asyncio.run(closed_loop(served.url, 4, 3, say))
        slow.unlink()
        replies += asyncio.run(closed_loop(served.url, 4, 1, say))
    assert {reply.status for reply in replies} == {200}


@pytest.mark.service
@pytest.mark.parametrize("is_slow", [False, True])
async def test_the_log_of_sqlite_is_emptied_again_and_again(
    sqlite: Sqlite, monkeypatch: pytest.MonkeyPatch, is_slow: bool
) -> None:
    """On a disk that is always slow, only when it has become large."""
    monkeypatch.setattr(sqlite_store, "SLOW_DISK", 0 if is_slow else 60)
    monkeypatch.setattr(sqlite_store, "LOG_BYTES", 100_000)
    monkeypatch.setattr(sqlite_store, "MAX_LOG_BYTES", 1_000_000 if is_slow else 10**12)
    monkeypatch.setattr(sqlite_store, "CHECKPOINT_EVERY", 0)
    log = Path(f"{sqlite.file}-wal")
    sizes = [0]
    async with opened(sqlite.url) as dialogs:
        while sum(after < before for before, after in pairwise(sizes)) < 2:  # how often it was emptied
            assert await store_all(dialogs, [message("x" * 8_000) for _ in range(4)]) == [200] * 4
            sizes.append(log.stat().st_size)
    assert not is_slow or max(sizes) > 1_000_000
    wait_until(lambda: not log.exists())  # a checkpoint that has begun ends in its thread


# Dialogs that are deleted


async def test_messages_do_not_wait_for_a_search_for_old_dialogs_and_closing_ends_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    monkeypatch.setattr(SqliteStore, "_FIND_OLD", f"{numbers} WHERE ?1 IS NOT NULL")
    monkeypatch.setattr(PostgresStore, "_FIND_OLD", "SELECT pg_sleep(1000) WHERE $1::timestamptz IS NOT NULL")
    before = asyncio.all_tasks()
    async with opened(store.url, days=1) as dialogs:
        dialogs.start_upkeep()
        for _ in range(20):
            assert await store_some(dialogs) == {200}
        assert dialogs._upkeep
        assert not dialogs._upkeep.done()
        callers = {asyncio.create_task(status_of(dialogs.store_message(message()))) for _ in range(5)}
        await asyncio.sleep(0)
        await dialogs.close()
        assert asyncio.all_tasks() - before == callers
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)


async def test_old_dialogs_are_deleted_in_parts_again_and_again(
    store: Store, dialogs: Dialogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those that have got a message since; and the others are counted."""
    assert upkeep.EVERY + upkeep.SECONDS <= 360, "as old as the number of dialogs may be"
    counted: list[int] = []
    monkeypatch.setattr(upkeep, "set_dialogs", counted.append)
    monkeypatch.setattr(upkeep, "EVERY", 0.05)
    monkeypatch.setattr(dialogs, "_days", 30)
    old, new = "2020-01-01 00:00:00.000000", "2100-01-01 00:00:00.000000"
    said = [(f"d{number}", old) for number in range(50)] * 2 + [("goes on", old), ("goes on", new), ("new", new)]
    await becomes_ready(dialogs)
    store.query(INSERT + ",".join(f"('{at}', 'x', '{dialog}', 0, '{when}')" for at, (dialog, when) in enumerate(said)))
    assert await dialogs._store.delete_some(datetime(2025, 1, 1, tzinfo=UTC)) == 20
    dialogs.start_upkeep()
    async with asyncio.timeout(60):
        while counted[-1:] != [2]:
            await asyncio.sleep(0.01)
        store.query(f"{INSERT} ('again', 'x', 'old again', 0, '{old}')")
        while store.query("SELECT 1 FROM messages WHERE id = 'again'"):
            await asyncio.sleep(0.01)
    assert store.query("SELECT dialog_id FROM messages ORDER BY seq") == ["goes on", "goes on", "new"]


@pytest.mark.postgresql
async def test_a_dialog_that_goes_on_while_it_is_deleted_stays_as_a_whole(postgresql: PostgreSql) -> None:
    """The message is in the table, but not committed, when the old dialog is deleted."""
    postgresql.empty()
    address = parse_history_url(postgresql.url)
    assert isinstance(address, PostgresAddress)
    storing, deleting = PostgresStore(address), PostgresStore(address)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    await storing.probe()
    postgresql.query(f"{INSERT} ('first', 'hi', 'goes-on', 0, '2020-01-01'), ('other', 'hi', 'ended', 0, '2020-01-01')")
    session = storing._session
    assert session
    async with postgres_store._transaction(session.connection, ["goes-on"]):
        await session.insert([StoredMessage("second", "hi", "goes-on", 0)])
        deletion = asyncio.create_task(deleting.delete_some(datetime.now(UTC) - timedelta(days=1)))
        while await asyncio.to_thread(postgresql.query, waiting) == ["0"] and not deletion.done():
            await asyncio.sleep(0)
    assert await deletion == 2
    await storing.close()
    assert postgresql.query("SELECT id FROM messages ORDER BY seq") == ["first", "second"]


# The start, and versions of the table


def indexes(store: Store) -> list[str]:
    name, catalog = ("indexname", "pg_indexes") if isinstance(store, PostgreSql) else ("name", "sqlite_master")
    return store.query(f"SELECT {name} FROM {catalog} WHERE {name} LIKE '%messages_%' ORDER BY {name}")  # noqa: S608


async def test_a_table_of_the_first_version_is_brought_up_to_date(store: Store) -> None:
    await check(store.url)
    fresh = indexes(store)
    store.query(
        "DROP INDEX messages_by_time",
        "DROP TABLE messages_version",
        f"{INSERT} ('first', 'hello', 'old dialog', 0, '2025-01-01 10:00:00.000000')",
    )
    async with opened(store.url) as one, opened(store.url) as other:
        assert all(await asyncio.gather(one.is_ready(), other.is_ready()))
        chat = await one.store_message(message("and now?", dialog_id="old dialog"))
    assert [said.text for said in chat.messages] == ["hello", "and now?"]
    assert store.query("SELECT version FROM messages_version") == [str(VERSION)]
    assert indexes(store) == fresh
    # 0.1.0, which knows version 2 at most and inserts these columns alone, can go on with the table
    assert VERSION == 2
    store.query(f"{INSERT} ('old', 'hi', 'dialog', 0, '2026-11-27 10:00:00.000000')")


async def test_a_table_of_a_newer_version_stops_the_start(store: Store) -> None:
    await check(store.url)
    assert store.query("SELECT count(*) FROM messages") == ["0"], "the probe leaves nothing behind"
    store.query(f"UPDATE messages_version SET version = {VERSION + 1}")  # noqa: S608
    why = f"the table messages has version {VERSION + 1}, and this service knows {VERSION} at most"
    with pytest.raises(BentoMLConfigException, match=f"^cannot store dialogs in (SQLite|PostgreSQL) [^ ]+: {why}$"):
        await check(store.url)


async def test_the_table_of_another_service_is_left_alone(
    store: Store, dialogs: Dialogs, caplog: pytest.LogCaptureFixture
) -> None:
    store.query(BASELINE_TABLE)
    before = indexes(store)
    await dialogs.check()
    assert not await dialogs.is_ready()
    assert len(caplog.messages) == 2
    assert all("created_at" in line for line in caplog.messages)
    assert indexes(store) == before
    store.query("DROP TABLE messages")
    await becomes_ready(dialogs)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("no folder", "[^ ]+: File exists$"),
        ("a loop of links", "[^ ]+: Too many levels of symbolic links$"),
        ("no database", "file is not a database$"),
        ("damaged", "database disk image is malformed$"),
        ("no WAL", "the file system does not support SQLite's WAL mode"),
    ],
)
async def test_a_file_that_cannot_be_used_stops_the_start(
    sqlite: Sqlite, monkeypatch: pytest.MonkeyPatch, fault: str, why: str
) -> None:
    """Network file systems lack what WAL needs; so does a layer of SQLite's own."""
    url = sqlite.url
    match fault:
        case "no folder":
            sqlite.file.touch()
            url = Sqlite(sqlite.file).url
        case "a loop of links":
            sqlite.file.symlink_to(sqlite.file)
        case "no database":
            sqlite.file.write_text("no database " * 100)
        case "damaged":
            await check(url)
            content = sqlite.file.read_bytes()
            sqlite.file.write_bytes(content[:4096].ljust(len(content), b"x"))  # after the page that lists the tables
        case "no WAL":
            connect = partial(sqlite3.connect, uri=True)
            monkeypatch.setattr(
                sqlite3, "connect", lambda file, **other: connect(f"file:{file}?vfs=unix-dotfile", **other)
            )
    with pytest.raises(BentoMLConfigException, match=f"^cannot store dialogs in SQLite [^ ]+: {why}"):
        await check(url)


async def test_a_store_that_connects_again_keeps_its_locks(sqlite: Sqlite) -> None:
    """What only reads goes on meanwhile. Without locks, the next process that closes the file removes its log."""
    one_store = SqliteStore(sqlite.file)

    async def store_one() -> None:
        await one_store.exchange([StoredMessage(str(uuid4()), SECRET, str(uuid4()), 0)])

    def count_in_another_process() -> str:
        count = f"import sqlite3; file = sqlite3.connect({str(sqlite.file)!r})\n"
        count += "print(*file.execute('SELECT count(*) FROM messages').fetchone()); file.close()"
        return subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True).stdout.strip()

    await store_one()
    with closing(sqlite3.connect(sqlite.file)) as reader:
        reader.execute("SELECT count(*) FROM messages").fetchone()
        await one_store.close()  # as after an error
        await store_one()
    assert count_in_another_process() == "2"
    await store_one()
    assert count_in_another_process() == "3"
    await one_store.close()


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o2775, 0o664)])
def test_the_group_of_a_shared_folder_can_write_the_file(sqlite: Sqlite, folder: int, file: int) -> None:
    sqlite.file.parent.chmod(folder)
    before = os.umask(0o022)
    try:
        prepare_file(sqlite.file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(sqlite.file.stat().st_mode) == file


async def test_a_store_that_is_down_does_not_stop_the_start(caplog: pytest.LogCaptureFixture) -> None:
    await check("postgresql://dialogs:pass@127.0.0.1:1/postgres")
    (line,) = caplog.messages
    assert line.startswith("PostgreSQL 127.0.0.1:1/postgres: messages cannot be stored yet: ConnectionRefusedError: ")
    assert "pass" not in line


# TLS and passwords


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgreSql, dict[str, Path]]]:
    """Return a PostgreSQL that speaks TLS as localhost and asks for a password; its certificate, and another one."""
    made = PostgreSql()
    made.start()
    other = tmp_path_factory.mktemp("other") / "other.crt"
    make_certificate("other", other, other.with_suffix(".key"))
    yield made, {"certificate": made.secure("localhost", PASSWORD), "other": other}
    made.remove()


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("host", "parameters", "ready"),
    [
        ("127.0.0.1", "", True),  # as libpq does: TLS where the server has it
        ("127.0.0.1", "?ssl=true&application_name=chats&connect_timeout=10", True),
        ("127.0.0.1", "?sslmode=require&options=-c%20search_path%3Dpublic&target_session_attrs=read-write", True),
        ("127.0.0.1", "?sslmode=disable", False),
        ("localhost", "?sslmode=verify-full&sslrootcert={certificate}", True),
        ("127.0.0.1", "?sslmode=verify-ca&sslrootcert={certificate}", True),
        ("127.0.0.1", "?sslmode=verify-full&sslrootcert={certificate}", False),  # the certificate is for localhost
        ("localhost", "?sslmode=verify-full&sslrootcert={other}", False),
        ("localhost", "?sslmode=require&sslrootcert=system", False),  # of which the certificate is none
    ],
)
async def test_tls_and_a_password_of_special_characters(
    secured: tuple[PostgreSql, dict[str, Path]],
    caplog: pytest.LogCaptureFixture,
    host: str,
    parameters: str,
    ready: bool,
) -> None:
    server, certificates = secured
    url = server.url_of(user=f"dialogs:{quote(PASSWORD, safe='')}", host=host) + parameters.format(**certificates)

    async with opened(url) as dialogs:
        assert await dialogs.is_ready() is ready
        assert await store_some(dialogs) == ({200} if ready else {503})
    assert len(caplog.messages) == (0 if ready else 2)  # of the probe, and of the message
    assert PASSWORD not in caplog.text
