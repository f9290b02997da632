"""The memory of dialogs: messages come one at a time, and each is scored with all that came before it.

Messages that arrive while others are being stored are stored together, in one transaction, and are answered only after
it is committed. The store runs the transaction (`store.py`); in it, `admit` (`dialog.py`) decides what becomes of each
message. `readiness.py` probes the store, and `upkeep.py` deletes old dialogs and counts the others.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg
from bentoml.exceptions import BentoMLConfigException

from models.chat import Chat
from records.history_url import PostgresAddress
from records.messages import Cause, StoredMessage, UnusableStoreError, cause_of, reason_of
from serving.dialogs.dialog import Outcome
from serving.dialogs.postgres_store import PostgresStore
from serving.dialogs.readiness import Readiness
from serving.dialogs.sqlite_store import SqliteStore
from serving.dialogs.store import Store
from serving.dialogs.tasks import GIVE_UP, cancel, in_time
from serving.dialogs.upkeep import keep_up
from serving.errors import Problem, RefusedError
from serving.log import get_request_id, of_requests
from serving.schemas import PlatformMessage

CHECK_SECONDS = 600  # to bring a large table up to date at the start
GROUP_SIZE = 64  # messages stored in one transaction
logger = logging.getLogger("bentoml.dialogs")


class Waiting(NamedTuple):
    """A message that is not stored yet, what its caller waits for, and the id of the caller's request."""

    message: StoredMessage
    chat: "asyncio.Future[Chat]"
    request_id: str


class Dialogs:
    """Stores messages and answers with the chat of their dialog so far.

    They are kept in a SQLite file or in PostgreSQL. Dialogs without a message for `days` are deleted.
    """

    def __init__(self, where: Path | PostgresAddress, days: float | None = None) -> None:
        self._store: Store = SqliteStore(where) if isinstance(where, Path) else PostgresStore(where)
        self._days = days
        self._readiness = Readiness(self._store)
        self._waiting: list[Waiting] = []
        self._storing: asyncio.Task[None] | None = None
        self._upkeep: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Check at the start that messages can be stored, and create the table or bring it up to date.

        Raises BentoMLConfigException if the store cannot be used as it is. A store that does not answer may be there
        later, and is only logged.
        """
        try:
            await in_time(self._store.probe, CHECK_SECONDS)
        except asyncpg.ClientConfigurationError as error:
            raise BentoMLConfigException(f"HISTORY_URL: {self._store}: {reason_of(error)}") from None
        except UnusableStoreError as error:
            raise BentoMLConfigException(f"cannot store dialogs in {self._store}: {error}") from None
        except Exception as error:  # any error goes into the log
            logger.warning("%s: messages cannot be stored yet: %s", self._store, reason_of(error))
        finally:
            await self.close()

    def start_upkeep(self) -> None:
        """Delete old dialogs and count the others beside the messages, until `close`."""
        self._upkeep = asyncio.create_task(keep_up(self._store, self._readiness, self._days))

    async def close(self) -> None:
        """Stop what is going on and close the connection to the store; the next use opens another."""
        await cancel(self._storing)
        await cancel(self._upkeep)
        await self._store.close()

    async def store_message(self, message: PlatformMessage) -> Chat:
        """Store a message; returns its dialog up to it.

        A message that is stored already (same `id` and content) is not stored again, and gives the same chat. Raises
        `RefusedError` with 409 for other content under the same `id`, 413 for a dialog that is full, 400 for a message
        that the store cannot hold, and 503 when it is not stored within `GIVE_UP` seconds (`tasks.py`).
        """
        new = StoredMessage(message.id, message.text, message.dialog_id, message.participant_index)
        waiting = Waiting(new, asyncio.get_running_loop().create_future(), get_request_id())
        self._waiting.append(waiting)
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_waiting())
        try:
            async with asyncio.timeout(GIVE_UP):  # whatever happens to the group
                return await waiting.chat
        except TimeoutError:
            raise RefusedError(Problem.STORE_DOWN) from None

    async def is_ready(self) -> bool:
        """Return whether a message could be stored."""
        return await self._readiness.is_ready()

    async def _store_waiting(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:GROUP_SIZE], self._waiting[GROUP_SIZE:]
            await self._store_group(group)

    async def _store_group(self, group: Sequence[Waiting]) -> None:
        """Store messages and answer their callers; those who have given up are left out."""
        group = [one for one in group if not one.chat.done()]
        if not group:
            return
        messages = [one.message for one in group]
        try:
            outcomes: Sequence[Outcome] = await in_time(lambda: self._store.exchange(messages), GIVE_UP)
        except Exception as error:  # after any error, every caller gets an answer
            cause = cause_of(error)
            if cause is Cause.MESSAGE and len(group) > 1:  # of one of them: store the others
                for one in group:
                    await self._store_group([one])
                return
            ids = of_requests(one.request_id for one in group)
            logger.warning("%s: %d messages were not stored: %s", self._store, len(group), reason_of(error), extra=ids)
            problem = Problem.UNSTORABLE if cause is Cause.MESSAGE else Problem.STORE_DOWN
            outcomes = [RefusedError(problem) for _ in group]
        for one, outcome in zip(group, outcomes, strict=True):
            if one.chat.done():  # the caller has given up
                continue
            if isinstance(outcome, RefusedError):
                one.chat.set_exception(outcome)
            else:
                one.chat.set_result(outcome)
