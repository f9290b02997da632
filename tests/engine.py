"""Shared by the tests that use a real Docker engine."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, free_port, is_ready, wait_until

IMAGE = "turing_test_service"


def docker(*arguments: str, cwd: Path = ROOT, check: bool = True) -> str:
    """Run a docker command; returns its output, standard error included."""
    done = subprocess.run(
        ["docker", *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stdout}"
    return done.stdout.strip()


def inspect(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", name))[0]
    return found


@dataclass
class Container:
    """A running container of the image."""

    name: str
    port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def exec(self, *command: str, check: bool = True) -> str:
        return docker("exec", self.name, *command, check=check)


@contextmanager
def container(*options: str, port: int | None = None) -> Iterator[Container]:
    """Run the image with `docker run -d`, wait until it is ready, and remove it at the end."""
    started = Container(f"turing-test-{free_port()}", port or free_port())
    published = [] if port else ["-p", f"{started.port}:8000"]
    docker("run", "-d", "--name", started.name, *published, *options, IMAGE)
    try:
        wait_until(lambda: is_ready(started.url) or not inspect(started.name)["State"]["Running"])
        assert is_ready(started.url), docker("logs", started.name)
        yield started
    finally:
        docker("rm", "-f", started.name, check=False)
