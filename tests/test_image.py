"""The image, on a real Docker engine, with the commands that people know."""

import json
import os
import pty
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.classifier import METRICS, Classifier
from tests.conftest import CURL_CHAT, free_port, is_ready, send, wait_until
from tests.engine import IMAGE, Container, container, docker, inspect
from tests.stores import PostgreSql
from train.__main__ import main

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("image")]


@pytest.fixture(scope="module")
def served(image: None) -> Iterator[Container]:  # noqa: ARG001  # built before it runs
    with container() as started:
        yield started


def test_it_is_small_and_has_no_tools_to_build() -> None:
    assert inspect(f"{IMAGE}:latest")["Size"] <= 500e6
    tools = ["gcc", "cc", "make", "git", "curl"]
    found = docker("run", "--rm", "--entrypoint", "sh", IMAGE, "-c", f"command -v {' '.join(tools)} || true")
    assert found == ""


def test_it_answers_as_the_shipped_model(served: Container, classifier: Classifier) -> None:
    answer = send(f"{served.url}/predict", CURL_CHAT)
    assert answer.status == 200
    assert answer.json["model_version"] == classifier.version
    assert send(f"{served.url}/").text.count("swagger") > 0


def test_it_is_not_root(served: Container) -> None:
    assert inspect(IMAGE)["Config"]["User"] not in ("", "root", "0")
    assert served.exec("id", "-u") == "1034"


def test_exec_logs_stats_and_inspect(served: Container) -> None:
    assert "Python 3.11" in served.exec("python", "--version")
    assert "Starting" in docker("logs", served.name)
    stats = json.loads(docker("stats", "--no-stream", "--format", "{{json .}}", served.name))
    assert stats["MemUsage"].split("/")[0].strip().endswith("MiB")
    assert inspect(served.name)["Config"]["Image"] == IMAGE


def test_an_interactive_shell() -> None:
    """`docker run -it … /bin/bash` on a terminal: what is typed runs, `exit` ends it."""
    outside, inside = pty.openpty()
    process = subprocess.Popen(
        ["docker", "run", "--rm", "-it", IMAGE, "/bin/bash"], stdin=inside, stdout=inside, stderr=inside
    )
    os.close(inside)
    os.write(outside, b"echo $((6 * 7))-is-typed; exit\n")
    shown = b""
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([outside], [], [], 0.2)[0]:
            try:
                shown += os.read(outside, 4096)
            except OSError:  # the other end is closed
                break
    os.close(outside)
    assert process.wait(timeout=10) == 0
    assert b"42-is-typed" in shown


def test_stop_answers_the_request_in_flight() -> None:
    """A request whose body is still on its way when `docker stop` comes is answered; it all takes under 10 s."""
    body = json.dumps(CURL_CHAT).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with container() as started, socket.create_connection(("localhost", started.port), timeout=20) as client:
        client.sendall(head.encode() + body[:20])
        time.sleep(0.5)
        begin = time.monotonic()
        stop = subprocess.Popen(["docker", "stop", started.name], stdout=subprocess.DEVNULL)
        time.sleep(1)
        client.sendall(body[20:])
        answer = client.recv(65536)
        assert stop.wait(timeout=20) == 0
        assert time.monotonic() - begin < 10
        assert answer.startswith(b"HTTP/1.1 200")
        assert inspect(started.name)["State"]["ExitCode"] == 0


def test_rename_stop_and_rm() -> None:
    with container() as started:
        docker("rename", started.name, f"{started.name}-renamed")
        started.name += "-renamed"
        assert inspect(started.name)["State"]["Running"]
        docker("stop", started.name)
        docker("rm", started.name)
        assert started.name not in docker("ps", "-a", "--format", "{{.Names}}").split()


def test_limits_of_memory_and_cpu() -> None:
    with container("--memory=500m", "--cpus=1.0") as started:
        limits = inspect(started.name)["HostConfig"]
        assert limits["Memory"] == 500 * 2**20
        assert limits["NanoCpus"] == 1_000_000_000
        assert send(f"{started.url}/predict", CURL_CHAT).status == 200


def test_another_model_from_a_volume(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--quiet"]) == 0
    version = json.loads((tmp_path / METRICS).read_text())["version"]
    tmp_path.chmod(0o755)
    with container("-v", f"{tmp_path}:/other:ro", "-e", "MODEL_FOLDER=/other") as started:
        assert send(f"{started.url}/predict", CURL_CHAT).json["model_version"] == version


def test_the_hosts_network() -> None:
    """With `--net=host` the service listens on the host itself, on `PORT`, 8000 without it."""
    port = free_port()
    with container("--net=host", "-e", f"PORT={port}", port=port) as started:
        assert send(f"{started.url}/predict", CURL_CHAT).status == 200


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Run a registry on localhost; yields its address."""
    port = free_port()
    (tmp_path / "registry.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path}/storage}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(tmp_path / "registry.yml")], stdout=log, stderr=subprocess.STDOUT
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


def test_tag_push_and_pull(registry: str) -> None:
    name = f"{registry}/turing_test_service:1"
    docker("tag", IMAGE, name)
    docker("push", name)
    docker("rmi", name)
    docker("pull", name)
    assert inspect(name)["Id"] == inspect(IMAGE)["Id"]
    docker("rmi", name)


def test_it_gets_ready_again_after_a_restart() -> None:
    with container() as started:
        docker("restart", started.name)
        wait_until(lambda: is_ready(started.url))
        assert send(f"{started.url}/predict", CURL_CHAT).status == 200


def test_dialogs_live_in_the_volume() -> None:
    """What one container was told, the next one knows."""
    first = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    second = {"text": "are you a bot?", "dialog_id": "d", "id": "2", "participant_index": 1}
    told = {"chat_id": "d", "messages": [_as_chat(first), _as_chat(second)]}
    volume = f"turing-test-{free_port()}"
    try:
        with container("-v", f"{volume}:/history") as started:
            assert send(f"{started.url}/predict", first).status == 200
        with container("-v", f"{volume}:/history") as started:
            answer = send(f"{started.url}/predict", second).json["is_bot_probability"]
            whole = send(f"{started.url}/predict", told).json["participants"][1]["is_bot_probability"]
            assert answer == pytest.approx(whole, abs=1e-9)
    finally:
        docker("volume", "rm", volume)


def _as_chat(message: dict[str, object]) -> dict[str, object]:
    return {"message_id": message["id"], "text": message["text"], "participant_id": message["participant_index"]}


@pytest.mark.postgresql
def test_dialogs_in_a_postgresql_outside_the_container() -> None:
    store = PostgreSql()
    store.start()
    message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    try:
        port = free_port()
        with container("--net=host", "-e", f"PORT={port}", "-e", f"HISTORY_URL={store.url}", port=port) as started:
            assert send(f"{started.url}/predict", message).status == 200
        assert store.query("SELECT text FROM messages") == ["hi"]
    finally:
        store.remove()
