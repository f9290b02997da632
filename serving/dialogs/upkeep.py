"""The upkeep of a store: old dialogs are deleted, and the others are counted for the metrics."""

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from records.messages import reason_of
from serving.dialogs.store import Store
from serving.dialogs.tasks import Periodic, in_time
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
        self._cleaning = Periodic(self._clean, CLEAN_EVERY)
        self._counting = Periodic(self._count, COUNT_EVERY)

    def start_if_due(self) -> None:
        """Start what is due; called after messages were stored, or could have been."""
        self._cleaning.start_if_due()
        self._counting.start_if_due()

    async def close(self) -> None:
        """Stop what is going on."""
        await self._cleaning.close()
        await self._counting.close()

    async def _clean(self) -> None:
        """Delete the dialogs whose last message is too old, some at a time, so that messages come in between."""
        if self._days is None:
            return
        oldest = datetime.now(UTC) - timedelta(days=self._days)
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
        await asyncio.sleep((time.monotonic() - start) / COUNT_SHARE)  # until then, no other count is started
