"""The upkeep of a store: old dialogs are deleted, and the others are counted for the metrics."""

import asyncio
import logging
import math
import time
from datetime import UTC, datetime, timedelta

from records.messages import reason_of
from serving.dialogs.store import Store, cancel, in_time
from serving.scoring.metrics import set_dialogs

CLEAN_EVERY = 3600  # seconds between two deletions of old dialogs
CLEAN_SECONDS = 60  # for one call of `delete_some`
COUNT_EVERY = 60  # seconds between two counts of the dialogs for the metrics, at least
COUNT_SECONDS = 60  # for a count
COUNT_SHARE = 0.01  # of all time, at most, is spent counting: large tables are counted less often

logger = logging.getLogger("bentoml.dialogs")


class Upkeep:
    """Deletes dialogs without a message for `days`, and counts dialogs, in tasks beside the messages."""

    def __init__(self, store: Store, days: float | None) -> None:
        self._store = store
        self._days = days
        self._cleaned = -math.inf  # when; -inf: clean at the first use, as the clock may start at 0
        self._count_at = -math.inf  # when the next count is due
        self._cleaning: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None

    def clean_if_due(self) -> None:
        """Start deleting old dialogs, if that was not done for an hour and is not going on."""
        if self._days is None or (self._cleaning and not self._cleaning.done()):
            return
        if time.monotonic() - self._cleaned > CLEAN_EVERY:
            self._cleaned = time.monotonic()
            self._cleaning = asyncio.create_task(self._clean(datetime.now(UTC) - timedelta(days=self._days)))

    def count_if_due(self) -> None:
        """Start counting the dialogs, if that was not done for a while and is not going on."""
        if time.monotonic() > self._count_at and (self._counting is None or self._counting.done()):
            self._counting = asyncio.create_task(self._count())

    async def close(self) -> None:
        """Stop what is going on."""
        await cancel(self._cleaning)
        await cancel(self._counting)

    async def _clean(self, oldest: datetime) -> None:
        """Delete the dialogs whose last message is older, some at a time, so that messages come in between."""
        try:
            while await in_time(self._store.delete_some(oldest), CLEAN_SECONDS):
                await asyncio.sleep(0.05)
        except Exception as error:  # after any error, it is tried again in an hour
            logger.warning("%s: old dialogs were not deleted: %s", self._store, reason_of(error))

    async def _count(self) -> None:
        start = time.monotonic()
        try:
            set_dialogs(await in_time(self._store.count(), COUNT_SECONDS))
        except Exception as error:  # after any error, the gauge keeps its value until the next count
            logger.warning("%s: dialogs were not counted: %s", self._store, reason_of(error))
        end = time.monotonic()
        self._count_at = end + max(COUNT_EVERY, (end - start) / COUNT_SHARE)
