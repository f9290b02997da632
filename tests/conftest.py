"""Shared by all tests: a classifier, a real server, chats, and the rules for tiers and skips."""

import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import yaml

from models.chat import Chat, Message
from models.classifier import Classifier
from train.data import read_editions

pytest_plugins = ["tests.stores"]  # the fixture `postgresql`

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "train" / "sample"
RAY_PYTHON = ROOT / ".venv-ray" / "bin" / "python"
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


def find(*programs: str) -> str | None:
    """Return the path of the first program that is there; those of administrators need not be on a user's PATH."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    return next(filter(None, (shutil.which(program, path=path) for program in programs)), None)


find_chromium = partial(find, "chromium", "chromium-browser", "google-chrome")
find_firefox = partial(find, "firefox-esr", "firefox")


def find_postgresql() -> Path | None:
    """Return the folder of PostgreSQL's programs: Debian's newest, or the one on the PATH; None without any."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    return found[-1].parent if found[-1].is_file() else None


@cache
def _can_mount() -> bool:
    """Return whether this user may mount a file system."""
    with TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)
    return mounted.returncode == 0


# What tests with a marker need; the marker's description in `pyproject.toml` is the reason why others are skipped.
NEEDS: dict[str, Callable[[], object]] = {
    "docker": _has_docker,
    "postgresql": find_postgresql,
    "pgbouncer": partial(find, "pgbouncer"),
    "compiler": partial(find, "cc"),
    "mount": _can_mount,
    "nginx": partial(find, "nginx"),
    "proxy": partial(find, "haproxy"),
    "arm64": Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists,
    "kubernetes": partial(find, "kubectl"),
    "podman": partial(find, "podman"),
    "prometheus": lambda: find("prometheus") and find("promtool"),
    "ray": RAY_PYTHON.with_name("ray").exists,
    "curl": partial(find, "curl"),
    "browser": find_chromium,
    "firefox": find_firefox,
}


# The tier of a test follows from the functions that it, its fixtures and its helpers use; the first that matches
# counts. A marker says it where a test is slow for another reason.
TIERS = {
    # start another process, a server in a thread, or the whole app
    "service": {"running", "start_server", "subprocess", "fork", "serving", "TestClient"},
    "training": {"fit", "cross_fit"},  # train a model
}


@pytest.hookimpl(tryfirst=True)  # before pytest selects tests by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier: `docker` by its own marker, `service`, `training`, or else `unit`."""
    for item in items:
        assert isinstance(item, pytest.Function)
        if any(item.get_closest_marker(tier) for tier in ("docker", *TIERS)):
            continue
        names = _used(item.function, set())
        for definitions in item._fixtureinfo.name2fixturedefs.values():
            names |= _used(definitions[-1].func, set())
        needs_program = any(item.get_closest_marker(need) for need in NEEDS)
        tier = next((tier for tier, starters in TIERS.items() if names & starters), "unit")
        item.add_marker("service" if needs_program else tier)


def _used(function: Any, seen: set[str]) -> set[str]:
    """Return the names that a function uses, itself or in functions of the tests that it calls."""
    codes = [getattr(inspect.unwrap(function), "__code__", None)]
    for code in codes:
        codes += [inner for inner in getattr(code, "co_consts", ()) if isinstance(inner, CodeType)]
    names = {name for code in codes if code for name in code.co_names} - seen
    seen |= names
    for name in [*names]:
        found = getattr(inspect.unwrap(function), "__globals__", {}).get(name)
        if inspect.isfunction(found) and found.__module__.startswith("tests."):
            names |= _used(found, seen)
    return names


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that this machine cannot run; under CI they fail."""
    reasons = dict(line.split(": ", 1) for line in item.config.getini("markers") if ": " in line)
    for marker, is_there in NEEDS.items():
        if item.get_closest_marker(marker) and not is_there():
            if os.environ.get("CI") == "true":
                pytest.fail(f"{marker}: {reasons[marker]}, and CI=true does not allow skips")
            pytest.skip(f"{marker}: {reasons[marker]}")


@dataclass(frozen=True)
class Reply:
    """Status (0: the connection failed), headers by their names in lower case, and body."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.content)


# Each request opens its own connection, so that any worker may answer it; proxies of the environment are ignored.
CLIENT = httpx.Client(timeout=30, headers={"Connection": "close"}, trust_env=False)


def send(url: str, body: object = None, *, raw: bytes | None = None, content_type: str = "application/json") -> Reply:
    """POST a JSON value or raw bytes, or GET without either; raises ConnectionError without a complete answer."""
    content = raw if raw is not None or body is None else json.dumps(body).encode()
    try:
        if content is None:
            response = CLIENT.get(url)
        else:
            response = CLIENT.post(url, content=content, headers={"Content-Type": content_type})
    except httpx.TransportError as error:
        raise ConnectionError(f"no complete answer from {url}") from error
    return Reply(response.status_code, dict(response.headers), response.content)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(is_so: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds} s"
        time.sleep(0.1)


def is_ready(url: str, path: str = "/readyz") -> bool:
    try:
        return send(url + path).status == 200
    except OSError:
        return False


@dataclass
class Server:
    """A running `bentoml serve`."""

    url: str
    log: Path
    process: "subprocess.Popen[bytes]"

    def exit_code(self) -> int:
        """Wait for a server that stops by itself; one that does not is killed, and TimeoutExpired raised."""
        try:
            return self.process.wait(timeout=180)
        finally:
            self.process.kill()
            self.process.wait()

    def connect(self) -> socket.socket:
        """Open a TCP connection."""
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname, address.port), timeout=20)

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def memory(self) -> int:
        """Return the memory of all processes in bytes (PSS: shared pages are counted once)."""
        processes = [psutil.Process(pid) for pid in (self.process.pid, *self.workers())]
        return sum(process.memory_full_info().pss for process in processes)

    def folder_of_metrics(self) -> Path:
        """Return the folder that the workers write their metrics to."""
        return Path(psutil.Process(self.workers()[0]).environ()["PROMETHEUS_MULTIPROC_DIR"])


def start(log: Path, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a program whose output goes into a file."""
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **options)


@contextmanager
def answering(url: str, log: Path, process: "subprocess.Popen[bytes]", path: str = "/readyz") -> Iterator[str]:
    """Wait until a program answers at a path of a URL, which is yielded, and stop it at the end."""
    try:
        wait_until(lambda: is_ready(url, path) or process.poll() is not None)
        assert is_ready(url, path), log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def start_server(folder: Path, port: str = "", **environment: str) -> Server:
    """Start `bentoml serve` as the README does, on a free port if none is given."""
    port = port or str(free_port())
    log = folder / "server.log"
    command = [sys.executable, "-m", "bentoml", "serve", "--port", port]
    variables = {"BENTOML_DO_NOT_TRACK": "True", "HISTORY_FOLDER": str(folder / "history"), **environment}
    return Server(f"http://localhost:{port}", log, start(log, command, cwd=ROOT, env={**os.environ, **variables}))


@contextmanager
def running(folder: Path, port: str = "", **environment: str) -> Iterator[Server]:
    """Start a server, wait until it is ready, and stop it at the end."""
    started = start_server(folder, port, **environment)
    with answering(started.url, started.log, started.process):
        yield started


def config(folder: Path, **options: Any) -> str:
    """Write options of the service as BentoML's own configuration; returns the path, for `BENTOML_CONFIG`."""
    file = folder / "bentoml.yaml"
    file.write_text(yaml.safe_dump({"services": {"turing_test_service": options}}))
    return str(file)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Return what runs tests that are coroutines."""
    return "asyncio"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier.load()


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image as the README does, with the Bento in a separate store; returns what was printed."""
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path_factory.mktemp("bentoml"))}
    done = subprocess.run(["make", "image"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def sample_bodies() -> list[dict[str, Any]]:
    """Return the sample's chats as bodies of `/predict`."""
    return [chat.model_dump(exclude={"finished"}) for chat in read_editions([SAMPLE])[0].chats]


def make_chat(*turns: tuple[int | str, str]) -> Chat:
    """Return a chat of (participant, text) turns; the limits of requests are not checked."""
    return Chat.model_construct(
        chat_id="test",
        messages=[
            Message.model_construct(message_id=number, participant_id=participant, text=text)
            for number, (participant, text) in enumerate(turns)
        ],
    )
