"""Shared by the tests that use a real Docker engine."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, free_port, is_ready, wait_until

IMAGE = "turing_test_service"
# of builds; the host's works wherever the tests' own downloads do
NETWORK = os.environ.get("BUILD_NETWORK") or "host"


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
def container(*options: str, port: int | None = None, image: str = IMAGE, seconds: float = 60) -> Iterator[Container]:
    """Run an image with `docker run -d`, wait for some seconds until it is ready, and remove it at the end."""
    started = Container(f"turing-test-{free_port()}", port or free_port())
    published = [] if port else ["-p", f"{started.port}:8000"]
    docker("run", "-d", "--name", started.name, *published, *options, image)
    try:
        wait_until(lambda: is_ready(started.url) or not inspect(started.name)["State"]["Running"], seconds)
        assert is_ready(started.url), docker("logs", started.name)
        yield started
    finally:
        docker("rm", "-f", started.name, check=False)


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run a registry on localhost, which keeps its images in a folder; yields its address."""
    port = free_port()
    (folder / "registry.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/storage}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "registry.yml")], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until(lambda: _answers(port))
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def remove_images(*names: str) -> None:
    """Remove images by name, those that are not there silently."""
    docker("rmi", "-f", *names, check=False)
