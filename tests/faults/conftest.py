"""The service as a process, and what can be done to it."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import Server, running


@dataclass
class Process:
    """The service as `bentoml serve` runs it."""

    server: Server

    @property
    def url(self) -> str:
        return self.server.url

    def workers(self) -> list[int]:
        pid = self.server.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def folder_of_metrics(self) -> Path:
        """Return the folder that the workers write their metrics to."""
        entries = Path(f"/proc/{self.workers()[0]}/environ").read_text().split("\0")
        return Path(dict(entry.split("=", 1) for entry in entries if entry)["PROMETHEUS_MULTIPROC_DIR"])

    def kill(self, worker: int) -> None:
        os.kill(worker, signal.SIGKILL)

    def memory(self) -> int:
        """Return the memory of all processes in bytes (PSS: shared pages are counted once)."""
        return sum(
            _pss(Path(f"/proc/{pid}/smaps_rollup").read_text()) for pid in [self.server.process.pid, *self.workers()]
        )

    def terminate(self) -> None:
        self.server.process.terminate()

    def exit_code(self) -> int:
        return self.server.exit_code()

    def log(self) -> str:
        return self.server.log.read_text()


def _pss(rollup: str) -> int:
    return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


def connect(served: Process) -> socket.socket:
    """Open a TCP connection to the service."""
    address = urlsplit(served.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


Start = Callable[..., AbstractContextManager[Process]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a context manager that runs the service, with settings as keyword arguments."""

    @contextmanager
    def started(**environment: str) -> Iterator[Process]:
        with running(tmp_path, **environment) as server:
            yield Process(server)

    return started
