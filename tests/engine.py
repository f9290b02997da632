"""Shared by the tests that use a real Docker engine."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.weights import METRICS, SHIPPED
from tests.conftest import ROOT, free_port, is_ready, wait_until

IMAGE = "turing_test_service"
# of builds; the host's works wherever the tests' own downloads do
NETWORK = os.environ.get("BUILD_NETWORK") or "host"


def docker(*arguments: str, check: bool = True) -> str:
    """Run a docker command; returns its output, standard error included."""
    return sh(shlex.join(["docker", *arguments]), check=check)


def sh(command: str, folder: Path = ROOT, *, check: bool = True, **environment: str) -> str:
    """Run a command line as it is typed; returns its output, standard error included."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0 or not check, f"{command}: {done.stdout[-2000:]}"
    return done.stdout.strip()


def type_in_a_terminal(command: str, typed: str, folder: Path = ROOT) -> str:
    """Run a command on a terminal, type into it, and return what it shows until it ends."""
    return sh(f"printf %s {shlex.quote(typed)} | script --quiet --return --command '{command}' /dev/null", folder)


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

    def workers(self) -> list[int]:
        return [int(child) for child in self.exec("cat", "/proc/1/task/1/children").split()]


@contextmanager
def container(*options: str, image: str = IMAGE, seconds: float = 180) -> Iterator[Container]:
    """Run an image with `docker run -d`, wait for some seconds until it is ready, and remove it at the end."""
    started = Container(f"turing-test-{free_port()}", free_port())
    docker("run", "-d", "--name", started.name, "-p", f"{started.port}:8000", *options, image)
    try:
        wait_until(lambda: is_ready(started.url) or not inspect(started.name)["State"]["Running"], seconds)
        assert is_ready(started.url), docker("logs", started.name)
        yield started
    finally:
        docker("rm", "-f", started.name, check=False)


def remove_images(*names: str) -> None:
    """Remove images by name, those that are not there silently."""
    docker("rmi", "-f", *names, check=False)


def make_store(folder: Path) -> tuple[Path, str]:
    """Make a model store of BentoML's with a model of another version than the shipped one; returns both."""
    model = folder / "model"
    shutil.copytree(SHIPPED, model, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    metrics = json.loads((model / METRICS).read_text())
    (model / METRICS).write_text(json.dumps({**metrics, "version": "other"}))
    script = f"from pathlib import Path; from train.registry import register; register(Path({str(model)!r}))"
    environment = {**os.environ, "BENTOML_HOME": str(folder / "bentoml")}
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, check=True)
    return folder / "bentoml" / "models", "other"
