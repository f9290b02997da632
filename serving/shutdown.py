"""The end of a process: `/readyz` turns first, requests are still taken for a moment, those in flight are answered.

The server by itself stops to accept connections at SIGTERM, so that nobody learns from `/readyz` where not to go, and
waits without end for a client that sends or reads slowly.
"""

import asyncio
import os
import signal
import threading
from types import FrameType

STOP_AFTER = 1.0  # seconds from SIGTERM until no new connection is accepted
GIVE_UP_AFTER = 8.0  # and until all is given up: later than the edge gives up what came last; Docker kills after 10


class Shutdown:
    """Whether the end has begun."""

    def __init__(self) -> None:
        self.begun = False

    def watch(self) -> None:
        """Put itself before the server's handler of SIGTERM; called while the event loop of the process runs."""
        stop = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(stop):
            return  # a test's server, which is stopped in another way
        loop = asyncio.get_running_loop()

        def begin(number: int, frame: FrameType | None) -> None:
            self.begun = True
            loop.call_soon_threadsafe(loop.call_later, STOP_AFTER, stop, number, frame)
            loop.call_soon_threadsafe(loop.call_later, GIVE_UP_AFTER, os._exit, 0)

        signal.signal(signal.SIGTERM, begin)
