"""What tests share: a classifier, a real server, chats, and the rule on what may be skipped."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from models.chat import Chat, Message
from models.classifier import Classifier

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "train" / "sample"
CURL_CHAT = {
    "chat_id": 42,
    "messages": [
        {"message_id": 0, "text": "How about the money?", "participant_id": 0},
        {"message_id": 1, "text": "Who are you calling?", "participant_id": 1},
    ],
}


@cache
def _has_docker() -> bool:
    if shutil.which("docker") is None:
        return False
    return all(
        subprocess.run(["docker", *command], capture_output=True, check=False).returncode == 0
        for command in (["info"], ["compose", "version"])
    )


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def find_haproxy() -> str | None:
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")


def find_postgresql() -> Path | None:
    """Return the folder of PostgreSQL's programs, Debian's or that of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    return found[-1].parent if found[-1].is_file() else None


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "docker": (_has_docker, "no Docker engine with Compose answers here"),
    "postgresql": (lambda: find_postgresql() is not None, "no PostgreSQL is installed here"),
    "proxy": (lambda: find_haproxy() is not None, "no HAProxy is installed here"),
    "arm64": (lambda: Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists(), "arm64 is not emulated here"),
    "kubernetes": (
        lambda: all(shutil.which(program) for program in ("podman", "kubectl")),
        "no podman or no kubectl is installed here",
    ),
    "browser": (lambda: find_chromium() is not None, "no Chromium is installed here"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run; under CI that is a failure."""
    for marker, (is_there, reason) in NEEDS.items():
        if item.get_closest_marker(marker) and not is_there():
            if os.environ.get("CI") == "true":
                pytest.fail(f"{reason}, and CI=true allows no skip")
            pytest.skip(reason)


@dataclass
class Answer:
    """Status and body of an HTTP answer."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def send(url: str, body: object = None, *, raw: bytes | None = None, content_type: str = "application/json") -> Answer:
    """POST a body as JSON or raw bytes, or GET where there is none; raises OSError where the answer breaks off."""
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": content_type} if data is not None else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Answer(response.status, response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode())
    except HTTPException as error:
        raise ConnectionError("the answer broke off") from error


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.1)


def is_ready(url: str) -> bool:
    try:
        return send(f"{url}/readyz").status == 200
    except OSError:
        return False


@dataclass
class Server:
    """A server process of its own."""

    url: str
    log: Path
    process: "subprocess.Popen[bytes]"

    def batch_sizes(self) -> dict[float, float]:
        """Return the batch-size histogram: number of batches with at most so many requests."""
        rows = re.findall(r'adaptive_batch_size_bucket\{le="([^"]+)".*\} (\S+)', send(f"{self.url}/metrics").text)
        sizes: dict[float, float] = {}
        for size, count in rows:  # of every worker
            sizes[float(size)] = sizes.get(float(size), 0) + float(count)
        return sizes


def start_server(folder: Path, **environment: str) -> Server:
    """Start `bentoml serve` as the README does, on a free port."""
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", "serve", "--port", str(port)],
            cwd=ROOT,
            env={
                **os.environ,
                "BENTOML_DO_NOT_TRACK": "True",
                "HISTORY_FOLDER": str(folder / "history"),
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Server(f"http://localhost:{port}", log, process)


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[Server]:
    """Start a server, wait until it is ready, and stop it in the end."""
    started = start_server(folder, **environment)
    try:
        wait_until(lambda: is_ready(started.url) or started.process.poll() is not None)
        assert is_ready(started.url), started.log.read_text()
        yield started
    finally:
        started.process.terminate()
        started.process.wait(timeout=20)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image as the README does, with the Bento in a store of its own; returns what was printed."""
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path_factory.mktemp("bentoml"))}
    done = subprocess.run(["make", "image"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def sample_bodies() -> list[dict[str, Any]]:
    """Return the sample's chats as bodies of `/predict`."""
    dialogs = json.loads((SAMPLE / "train.json").read_text(encoding="utf-8"))
    return [
        {
            "chat_id": dialog_id,
            "messages": [
                {"message_id": m["message"], "text": m["text"], "participant_id": m["participant_index"]}
                for m in messages
            ],
        }
        for dialog_id, messages in dialogs.items()
    ]


def make_chat(*turns: tuple[int | str, str]) -> Chat:
    """Return a chat of (participant, text) turns, whatever the limits of a request."""
    return Chat.model_construct(
        chat_id="test",
        messages=[
            Message.model_construct(message_id=number, participant_id=participant, text=text)
            for number, (participant, text) in enumerate(turns)
        ],
    )
