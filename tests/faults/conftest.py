"""The service as a process and as a container, behind one interface."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import Server, running, wait_until
from tests.engine import Container, container, docker, inspect


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


@dataclass
class Contained:
    """The service as the image runs it."""

    container: Container

    @property
    def url(self) -> str:
        return self.container.url

    def workers(self) -> list[int]:
        return [int(child) for child in self.container.exec("cat", "/proc/1/task/1/children").split()]

    def kill(self, worker: int) -> None:
        self.container.exec("sh", "-c", f"kill -9 {worker}")

    def memory(self) -> int:
        files = [f"/proc/{pid}/smaps_rollup" for pid in [1, *self.workers()]]
        return _pss(self.container.exec("cat", *files))

    def terminate(self) -> None:
        subprocess.run(["docker", "kill", "--signal=TERM", self.container.name], check=True, stdout=subprocess.DEVNULL)

    def exit_code(self) -> int:
        wait_until(lambda: not inspect(self.container.name)["State"]["Running"])
        return int(inspect(self.container.name)["State"]["ExitCode"])

    def log(self) -> str:
        return docker("logs", self.container.name)


def _pss(rollup: str) -> int:
    return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))


Place = Process | Contained


def connect(served: Place) -> socket.socket:
    """Open a TCP connection to the service."""
    address = urlsplit(served.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


Start = Callable[..., AbstractContextManager[Place]]


@pytest.fixture(params=["process", pytest.param("container", marks=pytest.mark.docker)])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Return a context manager that runs the service, with settings as keyword arguments."""
    if request.param == "container":
        request.getfixturevalue("image")

    @contextmanager
    def started(**environment: str) -> Iterator[Place]:
        if request.param == "process":
            with running(tmp_path, **environment) as server:
                yield Process(server)
        else:
            options = [option for name, value in environment.items() for option in ("-e", f"{name}={value}")]
            with container(*options) as run:
                yield Contained(run)

    return started
