"""Shutdown and crashes: requests in flight are answered, and workers that die are replaced."""

import json
import os
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import CURL_CHAT, Server, running, send, wait_until
from tests.faults.client import long_chat

pytestmark = pytest.mark.faults
CLIENTS = 4
BODY = json.dumps(CURL_CHAT).encode()
HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    + f"Content-Length: {len(BODY)}\r\n\r\n".encode()
)


def status(served: Server, path: str = "/readyz", body: object = None) -> int:
    """Return the status of a response, or 0 without one."""
    try:
        return send(served.url + path, body).status
    except OSError:
        return 0


def test_after_sigterm_readyz_is_503_and_requests_in_flight_are_answered(tmp_path: Path) -> None:
    """Clients that have hung up do not delay the end: the worker stops by itself, and closes what it has opened."""
    with running(tmp_path, WORKERS="1") as served, served.connect() as client, ThreadPoolExecutor(1) as other:
        for _ in range(10):
            with served.connect() as gone:
                gone.sendall(HEAD + BODY[:20])
        long = other.submit(send, f"{served.url}/explain", raw=long_chat(30_000))
        in_flight = re.compile(r'request_in_progress{endpoint="/explain".*} 1\.0')
        wait_until(lambda: in_flight.search(send(f"{served.url}/metrics").text) is not None)
        assert status(served) == HTTPStatus.OK
        client.sendall(HEAD + BODY[:20])
        served.process.terminate()
        wait_until(lambda: status(served) == HTTPStatus.SERVICE_UNAVAILABLE)
        assert send(f"{served.url}/predict", CURL_CHAT).status == 200, "requests are accepted for another second"
        client.sendall(BODY[20:])
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert long.result().status in (200, 503), "503 where the machine is too busy for it"
        assert served.exit_code() == 0
        assert status(served) == 0
        assert "Completed async cleanup hook: close" in served.log.read_text()


def test_clients_that_stop_sending_or_reading_do_not_delay_the_shutdown(tmp_path: Path) -> None:
    """One sends half of a request; another requests a few megabytes and does not read them."""
    crowd = [{"message_id": n, "text": "", "participant_id": n} for n in range(2_000)]
    body = json.dumps({"chats": [{"chat_id": 1, "messages": crowd}] * 8}).encode()
    head = HEAD.replace(b"/predict", b"/predict_batch").replace(str(len(BODY)).encode(), str(len(body)).encode())
    with running(tmp_path, WORKERS="1") as served, served.connect() as sender, socket.socket() as reader:
        sender.sendall(HEAD + BODY[:20])
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = urlsplit(served.url)
        reader.connect((address.hostname, address.port))
        reader.sendall(head + body)
        assert reader.recv(15) == b"HTTP/1.1 200 OK"
        served.process.terminate()
        assert served.exit_code() == 0
        assert "cleanup hook" not in served.log.read_text(), "it gives up, and waits for neither"


def test_a_killed_worker_is_replaced_and_ctrl_c_stops_the_service(tmp_path: Path) -> None:
    """Under load: a new worker serves, and only requests to the killed one are lost."""
    with running(tmp_path, WORKERS="1") as served:
        ends = threading.Event()
        statuses: list[int] = []

        def ask() -> None:
            while not ends.is_set():
                statuses.append(status(served, "/predict", CURL_CHAT))

        with ThreadPoolExecutor(CLIENTS) as clients:
            for _ in range(CLIENTS):
                clients.submit(ask)
            try:
                wait_until(lambda: statuses.count(200) > 20)
                (before,) = served.workers()
                os.kill(before, signal.SIGKILL)
                wait_until(lambda: len(new := served.workers()) == 1 and before not in new)
                wait_until(lambda: status(served) == HTTPStatus.OK)
                answered = statuses.count(200)
                wait_until(lambda: statuses.count(200) > answered + 20)
            finally:
                ends.set()
        assert set(statuses) <= {0, 200}
        assert statuses.count(0) <= CLIENTS, "only requests in flight at the killed worker are lost"
        served.process.send_signal(signal.SIGINT)
        assert served.exit_code() == 0
