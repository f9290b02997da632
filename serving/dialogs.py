"""The memory of dialogs: messages come one at a time, and each is scored with all that came before it.

One table, in SQLite or PostgreSQL, holds the messages in the order of their arrival. Messages that arrive while others
are being stored are stored together, in one transaction, and are answered only after it is committed. Any number of
processes may share the table: one transaction at a time writes to SQLite, and to PostgreSQL one for each dialog.
"""

import asyncio
import fcntl
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    event,
    exists,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from models.chat import MAX_MESSAGES, Chat, Message, PlatformMessage
from serving.errors import RefusedError

MAX_BYTES = 1_000_000  # of all texts of a dialog in UTF-8
GIVE_UP = 1.5  # seconds to store messages, before the answer is 503
GONE = "the store of dialogs does not answer, try again"
TOGETHER = 64  # messages stored in one transaction
CLEAN_EVERY = 3600  # seconds between two deletions of old dialogs
CLEAN_TOGETHER = 200  # messages, by which the dialogs are found that are deleted in one transaction
PROBE_EVERY = 0.5  # seconds for which an answer to whether the store is there is good
SCHEMA_LOCK = 0x7475_7269  # any number, for PostgreSQL's lock while the table is created

T = TypeVar("T")
logger = logging.getLogger("bentoml.dialogs")
messages = Table(
    "messages",
    MetaData(),
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(128), nullable=False, unique=True),
    Column("text", Text, nullable=False),
    Column("dialog_id", String(128), nullable=False),
    Column("participant_index", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("messages_of_dialog", "dialog_id", "seq"),
    Index("messages_by_time", "created_at"),
)
_STORED = (
    select(messages.c.id, messages.c.text, messages.c.dialog_id, messages.c.participant_index)
    .where(
        messages.c.id.in_(bindparam("ids", expanding=True))
        | messages.c.dialog_id.in_(bindparam("dialogs", expanding=True))
    )
    .order_by(messages.c.seq)
)


@dataclass(frozen=True, slots=True)
class _Said:
    """One stored message."""

    id: str
    text: str
    dialog_id: str
    participant_index: int

    def size(self) -> int:
        return len(self.text.encode("utf-8", "surrogatepass"))


class Dialogs:
    """Stores messages and answers with the chat of their dialog so far."""

    def __init__(self, url: str, days: float | None = None) -> None:
        self._url = url
        self._days = days
        self._is_open = False
        self._cleaned = -math.inf  # when; the clock may have started with the machine, a minute ago
        self._waiting: list[tuple[PlatformMessage, asyncio.Future[Chat]]] = []
        self._storing: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[bool] | None = None
        self._probed = 0.0
        self._thread = ThreadPoolExecutor(1)  # in which SQLite works

    @cached_property
    def _engine(self) -> AsyncEngine | Engine:
        return _engine(self._url)

    async def remember(self, message: PlatformMessage) -> Chat:
        """Store a message; returns the chat of its dialog up to it.

        A message that is stored already (same `id` and content) is not stored again, and gives the same chat. Raises
        `RefusedError` with 409 for other content under the same `id`, 413 for a dialog that is full, and 503 when the
        store does not answer in time.
        """
        future: asyncio.Future[Chat] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, future))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_waiting())
        return await future

    async def is_ready(self) -> bool:
        """Tell whether the store answers; who asks at the same time gets the same answer."""
        if self._probe is None or (self._probe.done() and time.monotonic() - self._probed > PROBE_EVERY):
            self._probed = time.monotonic()
            self._probe = asyncio.create_task(self._answers())
        return await asyncio.shield(self._probe)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(GIVE_UP):
                await self._work(_read_one)
        except (SQLAlchemyError, OSError, TimeoutError):
            return False
        return True

    async def _store_waiting(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:TOGETHER], self._waiting[TOGETHER:]
            outcomes: Sequence[Chat | RefusedError]
            try:
                async with asyncio.timeout(GIVE_UP):
                    outcomes = await self._store([message for message, _ in group])
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                self._is_open = False  # the table may be gone, too
                logger.warning("the store of dialogs does not answer: %s", type(error).__name__)
                group += self._waiting  # who came meanwhile has waited, too
                self._waiting = []
                outcomes = [RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, GONE) for _ in group]
            for (_, future), outcome in zip(group, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, RefusedError):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    async def _store(self, group: Sequence[PlatformMessage]) -> list[Chat | RefusedError]:
        """Store messages, once more after what a second try mends: a lost connection, an id that came in meanwhile."""
        try:
            return await self._work(lambda connection: _exchange(connection, group))
        except DBAPIError as error:
            if not (isinstance(error, IntegrityError) or error.connection_invalidated):
                raise
            return await self._work(lambda connection: _exchange(connection, group))

    async def _work(self, work: Callable[[Connection], T]) -> T:
        """Do something with a connection to the open store, and see that old dialogs are deleted."""
        if self._days is not None and time.monotonic() - self._cleaned > CLEAN_EVERY:
            self._cleaned = time.monotonic()
            self._cleaning = asyncio.create_task(self._clean(datetime.now(UTC) - timedelta(days=self._days)))
        if isinstance(self._engine, AsyncEngine):
            async with self._engine.connect() as connection:
                return await connection.run_sync(self._open_and, work)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work_in_turn, self._engine, work)

    async def _clean(self, oldest: datetime) -> None:
        """Delete the dialogs whose last message is older, some at a time, so that messages come in between."""
        try:
            while await self._work(lambda connection: _delete_some(connection, oldest)):
                await asyncio.sleep(0.05)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("old dialogs were not deleted: %s", type(error).__name__)

    def _work_in_turn(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        with _turn(Path(f"{engine.url.database}.lock")), engine.connect() as connection:
            return self._open_and(connection, work)

    def _open_and(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        """Create the table, once, whoever else does so at the same time; do the work."""
        if not self._is_open:
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": SCHEMA_LOCK})
                messages.metadata.create_all(connection)
            self._is_open = True
        with connection.begin():
            return work(connection)


def _read_one(connection: Connection) -> None:
    connection.execute(select(messages.c.seq).limit(1))


def _delete_some(connection: Connection, oldest: datetime) -> int:
    """Delete some of the dialogs whose last message is older; returns how many messages went."""
    later = messages.alias()
    is_live = exists().where(later.c.dialog_id == messages.c.dialog_id, later.c.created_at >= oldest)
    some = select(messages.c.dialog_id).where(messages.c.created_at < oldest, ~is_live).limit(CLEAN_TOGETHER)
    return connection.execute(delete(messages).where(messages.c.dialog_id.in_(some))).rowcount


def _exchange(connection: Connection, group: Sequence[PlatformMessage]) -> list[Chat | RefusedError]:
    """Store what is new of a group of messages; returns what comes of each."""
    dialog_ids = sorted({message.dialog_id for message in group})
    if connection.dialect.name == "postgresql":
        connection.execute(
            text(
                # The server ends the transaction of a worker that it cannot reach, which would hold on to its locks.
                # Others have given up by then.
                "SELECT set_config('idle_in_transaction_session_timeout', '2s', true), pg_advisory_xact_lock(hash)"
                " FROM (SELECT DISTINCT hashtextextended(d, 0) AS hash"
                " FROM unnest(CAST(:dialogs AS text[])) AS d ORDER BY hash) AS locks"
            ),
            {"dialogs": dialog_ids},
        )
    rows = connection.execute(_STORED, {"ids": [message.id for message in group], "dialogs": dialog_ids})
    stored = [_Said(*row) for row in rows]
    known = {said.id: said for said in stored}
    dialogs: dict[str, list[_Said]] = {dialog_id: [] for dialog_id in dialog_ids}
    for said in stored:
        if said.dialog_id in dialogs:
            dialogs[said.dialog_id].append(said)
    outcomes, new = _take(group, known, dialogs)
    if new:
        now = datetime.now(UTC)
        connection.execute(insert(messages), [{**asdict(said), "created_at": now} for said in new])
    return outcomes


@contextmanager
def _turn(file: Path) -> Iterator[None]:
    """Wait for one's turn among the processes that share a SQLite file.

    SQLite itself lets those who wait look again after a while, and who looks at the wrong moments waits for seconds.
    """
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _take(
    group: Sequence[PlatformMessage], known: dict[str, _Said], dialogs: dict[str, list[_Said]]
) -> tuple[list[Chat | RefusedError], list[_Said]]:
    """Decide on each message in turn; returns what comes of each, and what is new. `known` and `dialogs` grow."""
    outcomes: list[Chat | RefusedError] = []
    new = []
    sizes = {dialog_id: sum(said.size() for said in dialog) for dialog_id, dialog in dialogs.items()}
    spoken = {dialog_id: [_message(said) for said in dialog] for dialog_id, dialog in dialogs.items()}
    for message in group:
        said = _Said(message.id, message.text, message.dialog_id, message.participant_index)
        dialog = dialogs[message.dialog_id]
        if message.id in known and known[message.id] != said:
            taken = [{"field": "id", "message": "Is taken"}]
            outcomes.append(RefusedError(HTTPStatus.CONFLICT, "the message is stored with other content", taken))
            continue
        if message.id not in known:
            if len(dialog) >= MAX_MESSAGES or sizes[message.dialog_id] + said.size() > MAX_BYTES:
                full = [{"field": "dialog_id", "message": "Is full"}]
                error = f"the dialog is full: {MAX_MESSAGES} messages or {MAX_BYTES} bytes"
                outcomes.append(RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error, full))
                continue
            dialog.append(said)
            known[said.id] = said
            new.append(said)
            sizes[message.dialog_id] += said.size()
            spoken[message.dialog_id].append(_message(said))
        end = dialog.index(known[message.id]) + 1 if dialog[-1].id != message.id else len(dialog)
        so_far = spoken[message.dialog_id][:end]
        outcomes.append(Chat.model_construct(chat_id=message.dialog_id, messages=so_far))
    return outcomes, new


def _message(said: _Said) -> Message:
    return Message.model_construct(message_id=said.id, text=said.text, participant_id=said.participant_index)


def _engine(url: str) -> AsyncEngine | Engine:
    """Return an engine for a URL of SQLite or PostgreSQL; that of SQLite is for one thread."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        parsed = parsed.set(drivername="postgresql+asyncpg")
        return create_async_engine(parsed, pool_size=2, max_overflow=2, connect_args={"timeout": GIVE_UP})
    engine = create_engine(
        parsed.set(drivername="sqlite"), connect_args={"timeout": GIVE_UP}, pool_reset_on_return=None
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not in the driver
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")  # readers and the writer don't wait for each other
        cursor.execute("PRAGMA synchronous=NORMAL")  # what is committed survives the end of any process
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # one writer at a time, from its first statement on

    folder = Path(engine.url.database or ".").parent
    folder.mkdir(parents=True, exist_ok=True)
    return engine
