"""Graceful shutdown: `/readyz` returns 503 at once, while new connections are accepted for another second.

On its own, the server closes its port at SIGTERM, before a load balancer learns from `/readyz` to send requests
elsewhere, and waits indefinitely for clients that send or read slowly. If the process that was started is killed, its
workers would go on unsupervised and keep the port; here they end as after SIGTERM.
"""

import asyncio
import logging
import os
import signal
import threading
from types import FrameType

from serving.errors import TIMEOUT_SECONDS

STOP_AFTER = 1.0  # seconds from SIGTERM until the port is closed
# Seconds from SIGTERM until the process exits: after the timeout of requests, and before Docker kills it (10 s).
GIVE_UP_AFTER = TIMEOUT_SECONDS + 2.0
CHECK_PARENT_EVERY = 1.0  # seconds
PARENT = "TURING_TEST_PARENT"  # variable of the environment: the process that was started, which workers inherit

logger = logging.getLogger("bentoml.shutdown")


class Shutdown:
    """Handles SIGTERM; `begun` says whether it has been received."""

    def __init__(self) -> None:
        self.begun = False

    def watch(self) -> None:
        """Take the place of the server's SIGTERM handler, which is called later; needs a running event loop."""
        stop = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(stop):
            return  # a server in a test, which is stopped in another way
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            self.begun = True
            loop.call_soon_threadsafe(loop.call_later, STOP_AFTER, stop, number, frame)
            loop.call_soon_threadsafe(loop.call_later, GIVE_UP_AFTER, os._exit, 0)

        def check_parent() -> None:
            if str(os.getppid()) == os.environ.get(PARENT, str(os.getppid())):
                loop.call_later(CHECK_PARENT_EVERY, check_parent)
            else:
                logger.error("The parent process is gone; this worker exits")
                signal.raise_signal(signal.SIGTERM)

        signal.signal(signal.SIGTERM, begin)
        check_parent()
