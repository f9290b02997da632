"""The machine around the service: what is removed under it, and what happens to its first process."""

import os
import re
import shutil
import signal
import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from models.classifier import Classifier
from service import TuringTestService
from serving.memory import OF_SERVICE, OF_WORKER, check_memory
from tests.conftest import CURL_CHAT, Server, running, sample_bodies, send, start_server, wait_until
from tests.engine import IMAGE, container, docker
from tests.stores import SmallDisk, lives

pytestmark = pytest.mark.faults
MESSAGE = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}


def answers(server: Server) -> list[int]:
    """Return the statuses of all kinds of requests, ten times each, so that every worker is asked."""
    requests = (("predict", CURL_CHAT), ("predict", MESSAGE), ("explain", CURL_CHAT), ("metrics", None))
    return [send(f"{server.url}/{path}", body).status for path, body in requests for _ in range(10)]


def replace_worker(server: Server) -> None:
    """Kill one of two workers, and wait until its successor answers as well."""
    wait_until(lambda: started(server) == 2)
    os.kill(server.workers()[0], signal.SIGKILL)
    wait_until(lambda: started(server) == 3)


def started(server: Server) -> int:
    """Return how many workers have begun to answer so far."""
    return server.log.read_text().count("Completed async startup hook")


def counted(server: Server) -> dict[str, float]:
    """Return what `/metrics` counts in all workers: chats, and requests by status."""
    text = send(f"{server.url}/metrics").text
    found: dict[str, float] = {}
    for status, number in re.findall(r'request_total\{endpoint="/predict",http_response_code="(\d+)".* (\S+)', text):
        found[status] = found.get(status, 0) + float(number)
    return found | {"chats": float(re.findall(r"turing_test_chat_words_count\S* (\S+)", text)[0])}


def test_nothing_that_is_removed_is_missed(tmp_path: Path) -> None:
    """The system's temporary files, the metrics, and the monitoring log, whose place a file takes.

    Running workers, and one that starts meanwhile, count metrics anew from zero.
    """
    temporary, home, log = (tmp_path / name for name in ("temporary", "home", "log"))
    temporary.mkdir()
    folders = {"TMPDIR": temporary, "BENTOML_HOME": home, "MONITORING": log}
    with running(tmp_path, WORKERS="2", **{name: str(folder) for name, folder in folders.items()}) as server:
        metrics = server.folder_of_metrics()
        assert metrics.parent == home, "where no system cleans"
        assert answers(server) == [200] * 40
        wait_until(lambda: counted(server)["chats"] == 20, 10)
        for removed in (*temporary.iterdir(), metrics, log):
            shutil.rmtree(removed)
        log.write_text("")
        assert send(f"{server.url}/metrics").status == 200, "whoever answers makes its own"
        wait_until(lambda: len(list(metrics.glob("counter_*"))) == 2 or answers(server) != [200] * 40)
        before = counted(server)["200"]
        assert answers(server) == [200] * 40
        assert counted(server)["200"] == before + 20
        shutil.rmtree(metrics)
        replace_worker(server)
        assert answers(server) == [200] * 40
        assert 'bentoml_service_request_total{endpoint="/predict"' in send(f"{server.url}/metrics").text
        # once for the new worker, and once more if another was still starting
        assert server.log.read_text().count("MONITORING: this worker writes no log") in (1, 2)
    assert not metrics.exists(), "removed at the end"


@pytest.mark.mount
def test_a_full_disk_fails_no_prediction(tmp_path: Path) -> None:
    """Neither in workers that run, with statuses that were not counted before, nor in one that starts."""
    home = tmp_path / "home"
    home.mkdir()
    with SmallDisk(home, megabytes=8) as disk, running(tmp_path, WORKERS="2", BENTOML_HOME=str(home)) as server:
        disk.fill()
        workers = server.workers()
        assert answers(server) == [200] * 40
        for path in ("predict", "predict_batch", "explain"):
            for kind, status in (("application/json", 400), ("text/plain", 415)):
                assert [send(f"{server.url}/{path}", raw=b"", content_type=kind).status for _ in range(6)] == [
                    status
                ] * 6
        assert server.workers() == workers, "none was killed"
        replace_worker(server)
        assert answers(server) == [200] * 40
        assert "This worker has no metrics: cannot write to" in server.log.read_text()


def test_readyz_says_whether_chats_can_be_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that fails after the start: predictions and `/readyz` do, and both recover."""

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.chdir(tmp_path)
    with TestClient(app=TuringTestService.to_asgi()) as client:  # type: ignore[attr-defined]
        for is_broken in (False, True, False):
            with monkeypatch.context() as patch:
                if is_broken:
                    patch.setattr(Classifier, "assess", fail)
                answer, ready = client.post("/predict", json=CURL_CHAT), client.get("/readyz").status_code
                assert (answer.status_code, ready) == ((500, 503) if is_broken else (200, 200))
                assert not is_broken or answer.json() == {"error": "Internal Server Error", "detail": []}


def test_workers_end_with_the_process_that_was_started(tmp_path: Path) -> None:
    """It is killed while its workers start, and while they serve; then the port is free."""
    starting = start_server(tmp_path)
    wait_until(lambda: len(starting.workers()) > 0)
    workers = starting.workers()
    starting.process.kill()
    starting.process.wait()
    with running(tmp_path, WORKERS="2") as serving:
        workers += serving.workers()
        assert len(workers) >= 3
        serving.process.kill()
        wait_until(lambda: not any(map(lives, workers)))
    socket.create_server(("", int(serving.url.rpartition(":")[2]))).close()


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "268435456"}, 256),
        ({"memory.max": "max"}, None),
        ({"memory/memory.limit_in_bytes": "268435456"}, 256),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, None),
    ],
)
def test_a_limit_of_memory_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, files: dict[str, str], limit: int | None
) -> None:
    for name, content in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True)
        file.write_text(f"{content}\n")
    check_memory(2, tmp_path)
    assert [f"the limit is {limit}" in line for line in caplog.messages] == ([True] if limit else [])


@pytest.mark.docker
@pytest.mark.usefixtures("image")
@pytest.mark.parametrize("workers", [1, 2])
def test_it_serves_with_the_memory_that_it_asks_for_and_says_what_is_too_little(workers: int) -> None:
    """As `docker run -m` limits it, without swap."""
    need = OF_SERVICE + workers * OF_WORKER

    def limited(megabytes: int) -> list[str]:
        return [f"--memory={megabytes}m", f"--memory-swap={megabytes}m", "-e", f"WORKERS={workers}"]

    with container(*limited(need), seconds=180) as started:
        before = started.workers()
        bodies = sample_bodies()
        for body in bodies:
            assert send(f"{started.url}/predict", body).status == 200
            assert send(f"{started.url}/explain", body).status == 200
        assert send(f"{started.url}/predict_batch", {"chats": bodies * 6}).status == 200
        assert started.workers() == before, "none was killed"
        assert "the limit is" not in docker("logs", started.name)
    too_small = docker("run", "-d", *limited(need - 96), IMAGE)
    try:
        wait_until(lambda: f"needs {need} MiB, the limit is {need - 96}" in docker("logs", too_small))
    finally:
        docker("rm", "-f", too_small)
