"""Whether messages can be stored: what `/readyz` asks."""

import asyncio
import logging
import time

from records.messages import reason_of
from serving.dialogs.store import Store
from serving.dialogs.tasks import GIVE_UP, in_time

PROBE_EVERY = 0.5  # seconds between two probes of the store, at least

logger = logging.getLogger("bentoml.dialogs")


class Readiness:
    """Probes a store; logs when messages can no longer be stored, and when they can be stored again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._was_ready = True
        self._valid_until = 0.0

    async def is_ready(self) -> bool:
        """Return whether a message could be stored; callers at the same time share one probe."""
        async with self._lock:
            if time.monotonic() > self._valid_until:
                await self._probe()
                self._valid_until = time.monotonic() + PROBE_EVERY
        return self._was_ready

    async def _probe(self) -> None:
        try:
            await in_time(self._store.probe, GIVE_UP)
        except Exception as error:  # after any error, nothing was stored
            if self._was_ready:
                logger.warning("%s: messages cannot be stored: %s", self._store, reason_of(error))
            self._was_ready = False
        else:
            if not self._was_ready:
                logger.info("%s: messages can be stored again", self._store)
            self._was_ready = True
