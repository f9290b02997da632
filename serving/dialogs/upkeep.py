"""The upkeep of a store: old dialogs are deleted, and the others are counted for the metrics."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from records.messages import reason_of
from serving.dialogs.readiness import PROBE_EVERY, Readiness
from serving.dialogs.store import Store
from serving.dialogs.tasks import in_time
from serving.scoring.metrics import set_dialogs

EVERY = 300  # seconds between two rounds
SECONDS = 60  # for a count, and for one call of `delete_some`

logger = logging.getLogger("bentoml.dialogs")


async def keep_up(store: Store, readiness: Readiness, days: float | None) -> None:
    """Delete dialogs without a message for `days` and count the others, now and then while the store is ready."""
    while True:
        while not await readiness.is_ready():
            await asyncio.sleep(PROBE_EVERY)
        try:
            if days is not None:
                await _delete_old(store, datetime.now(UTC) - timedelta(days=days))
            set_dialogs(await in_time(store.count, SECONDS))
        except Exception as error:  # after any error, it is tried again later
            logger.warning("%s: the upkeep of dialogs failed: %s", store, reason_of(error))
        await asyncio.sleep(EVERY)


async def _delete_old(store: Store, oldest: datetime) -> None:
    """Delete the dialogs whose last message is older, some at a time, so that messages come in between."""
    while await in_time(lambda: store.delete_some(oldest), SECONDS):
        await asyncio.sleep(0.05)
