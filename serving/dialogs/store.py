"""What a store does with the table of messages (`records/messages.py`).

There are two stores, `sqlite_store.py` and `postgres_store.py`. Each keeps one connection, opened when it is first
needed. After an error in a transaction the connection is closed, because it may be stale (a restart, a failover, a
replaced file), unless the error was that of a message.

Any number of processes may share the table: one transaction at a time writes to SQLite, and to PostgreSQL one at a time
for each dialog.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import uuid4

from records.messages import Cause, StoredMessage, cause_of
from serving.dialogs.dialog import Outcome

GIVE_UP = 1.5  # seconds to wait for a store
FIND_AT_ONCE = 200  # old dialogs, in one search
DELETE_AT_ONCE = 1_000  # messages of old dialogs, in one transaction; a dialog is never cut
COUNT_DIALOGS = "SELECT count(DISTINCT dialog_id) FROM messages"
FIND_OLD = """SELECT dialog_id, count(*) FROM messages
    WHERE dialog_id IN (SELECT DISTINCT dialog_id FROM messages WHERE created_at < {oldest})
    GROUP BY dialog_id HAVING max(created_at) < {oldest} LIMIT {limit}"""

T = TypeVar("T")


class Store(Protocol):
    """Where messages are kept. Errors of the driver come through as they are; `cause_of` reads them."""

    async def exchange(self, group: Sequence[StoredMessage]) -> list[Outcome]:
        """Store the new ones of a group of messages in one transaction; returns what becomes of each, in order."""
        ...

    async def probe(self) -> None:
        """Store a message as `exchange` does, and take it back; raises what keeps messages from being stored."""
        ...

    async def delete_some(self, oldest: datetime) -> int:
        """Delete some of the dialogs whose last message is older; returns how many were found, 0 if there are no more.

        A transaction deletes a few of them, so that messages get in between.
        """
        ...

    async def count(self) -> int:
        """Return the number of dialogs, without holding up messages."""
        ...

    async def close(self) -> None:
        """Close the connection; the next use opens another."""
        ...


def in_parts(found: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Cut dialogs, each with its number of messages, into parts of about `DELETE_AT_ONCE` messages."""
    part: list[str] = []
    filled = 0
    for dialog_id, messages in found:
        if part and filled + messages > DELETE_AT_ONCE:
            yield part
            part, filled = [], 0
        part.append(dialog_id)
        filled += messages
    if part:
        yield part


def make_probe() -> StoredMessage:
    """Return a message that no dialog has, to find out whether messages can be stored."""
    name = f"probe-{uuid4()}"
    return StoredMessage(name, "", name, 0)


async def try_twice(work: Callable[[], Awaitable[T]]) -> T:
    """Do something, and retry once after an error that may be gone."""
    try:
        return await work()
    except Exception as error:
        if cause_of(error) is not Cause.TRY_AGAIN:
            raise
    return await work()


async def in_time(work: Awaitable[T], seconds: float = GIVE_UP) -> T:
    """Wait for something; raises TimeoutError that says for how long. One that comes from inside keeps its message."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {seconds} seconds") from None


async def cancel(task: "asyncio.Task[Any] | None") -> None:
    """Cancel a task, and wait for its end."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
