"""The machine around the service: what is removed under it, and what happens to its first process."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import CURL_CHAT, Server, running, send, start_server, wait_until
from tests.faults.conftest import Process
from tests.stores import lives

pytestmark = pytest.mark.faults
MESSAGE = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}


def folder_of_metrics(server: Server) -> Path:
    """Return the folder that the workers of a server write their metrics to."""
    (worker, *_) = Process(server).workers()
    entries = Path(f"/proc/{worker}/environ").read_text().split("\0")
    return Path(dict(entry.split("=", 1) for entry in entries if entry)["PROMETHEUS_MULTIPROC_DIR"])


def answers(server: Server) -> list[int]:
    """Return the statuses of all kinds of requests, ten times each, so that every worker is asked."""
    requests = (("predict", CURL_CHAT), ("predict", MESSAGE), ("explain", CURL_CHAT), ("metrics", None))
    return [send(f"{server.url}/{path}", body).status for path, body in requests for _ in range(10)]


def replace_worker(server: Server) -> None:
    """Kill one of two workers, and wait until its successor answers as well."""
    wait_until(lambda: started(server) == 2)
    os.kill(Process(server).workers()[0], signal.SIGKILL)
    wait_until(lambda: started(server) == 3)


def started(server: Server) -> int:
    """Return how many workers have begun to answer so far."""
    return server.log.read_text().count("Completed async startup hook")


def test_nothing_is_missed_when_the_system_cleans_its_folder_of_temporary_files(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    home = tmp_path / "home"
    with running(tmp_path, TMPDIR=str(temporary), BENTOML_HOME=str(home), WORKERS="2") as server:
        assert folder_of_metrics(server).parent == home
        for left in temporary.iterdir():
            shutil.rmtree(left)
        replace_worker(server)
        assert answers(server) == [200] * 40
        assert 'bentoml_service_request_total{endpoint="/predict"' in send(f"{server.url}/metrics").text
    assert not list(home.glob("*metrics*")), "removed at the end"


def test_predictions_do_not_depend_on_the_folder_of_metrics(tmp_path: Path) -> None:
    with running(tmp_path, WORKERS="2") as server:
        folder = folder_of_metrics(server)
        shutil.rmtree(folder)
        assert answers(server) == [200] * 40
        shutil.rmtree(folder)
        replace_worker(server)
        assert answers(server) == [200] * 40
        assert "turing_test_answers_total" in send(f"{server.url}/metrics").text, "of the new worker"
        assert server.log.read_text().count(f"{folder} was removed") == 2


def test_predictions_do_not_depend_on_the_monitoring_log(tmp_path: Path) -> None:
    """The folder is replaced by a file, which nothing can be written into."""
    log = tmp_path / "log"
    with running(tmp_path, WORKERS="2", MONITORING=str(log)) as server:
        shutil.rmtree(log)
        log.write_text("")
        replace_worker(server)
        assert answers(server) == [200] * 40
        # once for the new worker, and once more if another was still starting
        assert server.log.read_text().count("MONITORING: this worker writes no log") in (1, 2)


def test_workers_end_with_the_process_that_was_started(tmp_path: Path) -> None:
    """It is killed while its workers start, and while they serve; a second start gets the port."""
    starting = start_server(tmp_path)
    wait_until(lambda: len(Process(starting).workers()) > 0)
    workers = Process(starting).workers()
    starting.process.kill()
    starting.process.wait()
    with running(tmp_path, WORKERS="2") as serving:
        workers += Process(serving).workers()
        assert len(workers) >= 3
        serving.process.kill()
        wait_until(lambda: not any(lives(str(worker)) for worker in workers))
    with running(tmp_path, port=serving.url.rpartition(":")[2]) as second:
        assert send(f"{second.url}/predict", CURL_CHAT).status == 200
