"""Work on a store: limited in time, tried again, or done now and then beside the messages."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from records.messages import Cause, cause_of

GIVE_UP = 1.5  # seconds to wait for a store

T = TypeVar("T")


async def try_twice(work: Callable[[], Awaitable[T]]) -> T:
    """Do something, and retry once after an error that may be gone."""
    try:
        return await work()
    except Exception as error:
        if cause_of(error) is not Cause.TRY_AGAIN:
            raise
    return await work()


async def in_time(work: Awaitable[T], seconds: float) -> T:
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


class Periodic(Generic[T]):
    """Work that is started by its callers: one at a time, and at least some seconds after it was last started."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._started = 0.0  # when
        self._task: asyncio.Task[T] | None = None

    def start_if_due(self) -> "asyncio.Task[T]":
        """Start the work if it is due; returns the task that was started last."""
        if self._task is None or (self._task.done() and time.monotonic() - self._started > self._seconds):
            self._started = time.monotonic()
            self._task = asyncio.create_task(self._work())
        return self._task

    async def close(self) -> None:
        """Stop what is going on."""
        await cancel(self._task)
        self._task = None
