"""Whether messages can be stored: what `/readyz` asks."""

import asyncio
import logging

from records.messages import reason_of
from serving.dialogs.store import Store
from serving.dialogs.tasks import GIVE_UP, Periodic, in_time, try_twice
from serving.dialogs.upkeep import Upkeep

PROBE_EVERY = 0.5  # seconds between two probes of the store, at least

logger = logging.getLogger("bentoml.dialogs")


class Readiness:
    """Probes a store; logs when messages can no longer be stored, and when they can be stored again."""

    def __init__(self, store: Store, upkeep: Upkeep) -> None:
        self._store = store
        self._upkeep = upkeep
        self._probe = Periodic(self._try_to_store, PROBE_EVERY)
        self._was_ready = True

    async def is_ready(self) -> bool:
        """Return whether a message could be stored; concurrent callers share one probe."""
        return await asyncio.shield(self._probe.start_if_due())

    async def close(self) -> None:
        """Stop a probe that is going on."""
        await self._probe.close()

    async def _try_to_store(self) -> bool:
        try:
            await in_time(try_twice(self._store.probe), GIVE_UP)
        except Exception as error:  # after any error, nothing was stored
            if self._was_ready:
                logger.warning("%s: messages cannot be stored: %s", self._store, reason_of(error))
            self._was_ready = False
        else:
            if not self._was_ready:
                logger.info("%s: messages can be stored again", self._store)
            self._was_ready = True
            self._upkeep.start_if_due()
        return self._was_ready
