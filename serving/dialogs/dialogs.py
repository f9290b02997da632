"""The memory of dialogs: messages come one at a time, and each is scored with all that came before it.

Messages that arrive while others are being stored are stored together, in one transaction, and are answered only after
it is committed. The store runs the transaction (`store.py`); in it, `admit` (`dialog.py`) decides what becomes of each
message.
"""

import asyncio
import logging
import math
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard, TypeVar

import asyncpg
from bentoml.exceptions import BentoMLConfigException

from models.chat import Chat, PlatformMessage
from records.history_url import SqliteFile, parse_history_url
from records.messages import Cause, StoredMessage, WrongTableError, cause_of, reason_of
from serving.dialogs.dialog import Outcome
from serving.dialogs.postgres_store import PostgresStore
from serving.dialogs.sqlite_store import SqliteStore, prepare_file
from serving.dialogs.store import GIVE_UP, Store
from serving.errors import Problem, RefusedError
from serving.scoring.metrics import set_dialogs

CHECK_SECONDS = 600  # to bring a large table up to date at the start
GROUP_SIZE = 64  # messages stored in one transaction
CLEAN_EVERY = 3600  # seconds between two deletions of old dialogs
CLEAN_SECONDS = 60  # for one call of `delete_some`
COUNT_EVERY = 60  # seconds between two counts of the dialogs for the metrics, at least
COUNT_SECONDS = 60  # for a count
COUNT_SHARE = 0.01  # of all time, at most, is spent counting: large tables are counted less often
PROBE_EVERY = 0.5  # seconds between two probes of the store, at least

T = TypeVar("T")
Waiting = tuple[StoredMessage, "asyncio.Future[Chat]"]
logger = logging.getLogger("bentoml.dialogs")


class Dialogs:
    """Stores messages and answers with the chat of their dialog so far.

    `url` is read by `parse_history_url`, which raises ValueError. Dialogs without a message for `days` are deleted.
    """

    def __init__(self, url: str, days: float | None = None) -> None:
        self._address = parse_history_url(url)
        self._store: Store = (
            SqliteStore(self._address) if isinstance(self._address, SqliteFile) else PostgresStore(self._address)
        )
        self._days = days
        self._cleaned = -math.inf  # when; -inf: clean at the first use, as the clock may start at 0
        self._waiting: list[Waiting] = []
        self._storing: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._count_at = -math.inf  # when the next count is due
        self._probe: asyncio.Task[bool] | None = None
        self._probed = 0.0
        self._was_ready = True

    async def check(self) -> None:
        """Check at the start that messages can be stored, and create the table or bring it up to date.

        Raises BentoMLConfigException if the table is not one that this version can use, or a file of SQLite cannot be
        written. A store that does not answer may be there later, and is only logged.
        """
        if isinstance(self._address, SqliteFile):
            prepare_file(self._address.file)
        try:
            await _in_time(self._store.probe(), CHECK_SECONDS)
        except (WrongTableError, asyncpg.ClientConfigurationError) as error:
            raise BentoMLConfigException(f"HISTORY_URL: {self._store}: {reason_of(error)}") from None
        except Exception as error:  # any error goes into the log
            if type(error) is sqlite3.DatabaseError:  # the file is damaged, or not SQLite's
                raise BentoMLConfigException(f"HISTORY_URL: {self._store}: {error}") from None
            logger.warning("%s: messages cannot be stored yet: %s", self._store, reason_of(error))
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop what is going on and close the connection to the store; the next use opens another."""
        tasks = [task for task in (self._storing, self._probe, self._cleaning, self._counting) if _is_running(task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.close()

    async def store_message(self, message: PlatformMessage) -> Chat:
        """Store a message; returns its dialog up to it.

        A message that is stored already (same `id` and content) is not stored again, and gives the same chat. Raises
        `RefusedError` with 409 for other content under the same `id`, 413 for a dialog that is full, 400 for a message
        that the store cannot hold, and 503 when it is not stored within `GIVE_UP` seconds (`store.py`).
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Chat] = loop.create_future()
        new = StoredMessage(*(getattr(message, name) for name in StoredMessage._fields))
        self._waiting.append((new, future))
        if not _is_running(self._storing):
            self._storing = asyncio.create_task(self._store_waiting())
        timer = loop.call_later(
            GIVE_UP, _settle, future, RefusedError(Problem.STORE_DOWN)
        )  # whatever happens to the group
        try:
            return await future
        finally:
            timer.cancel()

    async def is_ready(self) -> bool:
        """Return whether a message could be stored; concurrent callers share one probe."""
        if self._probe is None or (self._probe.done() and time.monotonic() - self._probed > PROBE_EVERY):
            self._probed = time.monotonic()
            self._probe = asyncio.create_task(self._try_to_store())
        return await asyncio.shield(self._probe)

    async def _try_to_store(self) -> bool:
        self._clean_if_due()
        try:
            await _in_time(_try_twice(self._store.probe))
        except Exception as error:  # after any error, nothing was stored
            if self._was_ready:
                logger.warning("%s: messages cannot be stored: %s", self._store, reason_of(error))
            self._was_ready = False
        else:
            if not self._was_ready:
                logger.info("%s: messages can be stored again", self._store)
            self._was_ready = True
            self._count_if_due()
        return self._was_ready

    async def _store_waiting(self) -> None:
        self._clean_if_due()
        while self._waiting:
            group, self._waiting = self._waiting[:GROUP_SIZE], self._waiting[GROUP_SIZE:]
            await self._store_group(group)

    async def _store_group(self, group: Sequence[Waiting]) -> None:
        """Store messages and answer their callers; those who have given up are left out."""
        group = [(message, future) for message, future in group if not future.done()]
        if not group:
            return
        try:
            messages = [message for message, _ in group]
            outcomes: Sequence[Outcome] = await _in_time(_try_twice(lambda: self._store.exchange(messages)))
        except Exception as error:  # after any error, every caller gets an answer
            cause = cause_of(error)
            # It may be one message (`Cause` in records/messages.py): find it, and store the others.
            if cause is not Cause.STORE and len(group) > 1:
                await self._store_group(group[: len(group) // 2])
                await self._store_group(group[len(group) // 2 :])
                return
            logger.warning("%s: %d messages were not stored: %s", self._store, len(group), reason_of(error))
            problem = Problem.UNSTORABLE if cause is Cause.MESSAGE else Problem.STORE_DOWN
            outcomes = [RefusedError(problem) for _ in group]
        else:
            self._count_if_due()
        for (_, future), outcome in zip(group, outcomes, strict=True):
            _settle(future, outcome)

    def _clean_if_due(self) -> None:
        if self._days is None or _is_running(self._cleaning):
            return
        if time.monotonic() - self._cleaned > CLEAN_EVERY:
            self._cleaned = time.monotonic()
            self._cleaning = asyncio.create_task(self._clean(datetime.now(UTC) - timedelta(days=self._days)))

    async def _clean(self, oldest: datetime) -> None:
        """Delete the dialogs whose last message is older, some at a time, so that messages come in between."""
        try:
            while await _in_time(self._store.delete_some(oldest), CLEAN_SECONDS):
                await asyncio.sleep(0.05)
        except Exception as error:  # after any error, it is tried again in an hour
            logger.warning("%s: old dialogs were not deleted: %s", self._store, reason_of(error))

    def _count_if_due(self) -> None:
        if time.monotonic() > self._count_at and not _is_running(self._counting):
            self._counting = asyncio.create_task(self._count())

    async def _count(self) -> None:
        """Count the dialogs for the metrics."""
        start = time.monotonic()
        try:
            set_dialogs(await _in_time(self._store.count(), COUNT_SECONDS))
        except Exception as error:  # after any error, the gauge keeps its value until the next count
            logger.warning("%s: dialogs were not counted: %s", self._store, reason_of(error))
        end = time.monotonic()
        self._count_at = end + max(COUNT_EVERY, (end - start) / COUNT_SHARE)


def _is_running(task: "asyncio.Task[Any] | None") -> TypeGuard["asyncio.Task[Any]"]:
    return task is not None and not task.done()


def _settle(future: "asyncio.Future[Chat]", outcome: Outcome) -> None:
    if future.done():  # the caller has given up
        return
    if isinstance(outcome, RefusedError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


async def _try_twice(work: Callable[[], Awaitable[T]]) -> T:
    """Do something, and retry once after an error that may be gone."""
    try:
        return await work()
    except Exception as error:
        if cause_of(error) is not Cause.TRY_AGAIN:
            raise
    return await work()


async def _in_time(work: Awaitable[T], seconds: float = GIVE_UP) -> T:
    """Wait for something; raises TimeoutError that says for how long. One that comes from inside keeps its message."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {seconds} seconds") from None
