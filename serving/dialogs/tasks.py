"""Work on a store: limited in time, and tried again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from records.messages import Cause, cause_of

GIVE_UP = 1.5  # seconds to wait for a store

T = TypeVar("T")


async def in_time(work: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Do something, and retry once after an error that may not happen again.

    Raises TimeoutError that says for how long it was waited for; one that comes from inside keeps its message.
    """
    try:
        async with asyncio.timeout(seconds):
            try:
                return await work()
            except Exception as error:
                if cause_of(error) is not Cause.TRY_AGAIN:
                    raise
            return await work()
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {seconds} seconds") from None


async def cancel(task: "asyncio.Task[Any] | None") -> None:
    """Cancel a task, and wait for its end."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
