"""The end of the service and of its workers: nothing that was begun is lost, and it comes back by itself."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from serving.shutdown import GIVE_UP_AFTER
from tests.conftest import CURL_CHAT, ROOT, Answer, send, wait_until
from tests.faults.client import long_chat
from tests.faults.conftest import Place, Start, connect

pytestmark = pytest.mark.faults
BODY = json.dumps(CURL_CHAT).encode()
HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    + f"Content-Length: {len(BODY)}\r\n\r\n".encode()
)


def ready(served: Place) -> int:
    """Return the status of `/readyz`, 0 without an answer."""
    try:
        return send(f"{served.url}/readyz").status
    except OSError:
        return 0


def test_sigterm_turns_readyz_and_answers_what_is_in_flight(start: Start) -> None:
    with start(WORKERS="1") as served, connect(served) as client:
        client.sendall(HEAD + BODY[:20])
        answers: list[Answer] = []
        long = threading.Thread(target=lambda: answers.append(send(f"{served.url}/explain", raw=long_chat(30_000))))
        long.start()
        time.sleep(0.3)
        assert ready(served) == HTTPStatus.OK
        begin = time.monotonic()
        served.terminate()
        wait_until(lambda: ready(served) == HTTPStatus.SERVICE_UNAVAILABLE, 2)
        assert send(f"{served.url}/predict", CURL_CHAT).status == 200, "who is on the way is still answered"
        client.sendall(BODY[20:])
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        long.join()
        assert [answer.status for answer in answers] == [200]
        assert served.exit_code() == 0
        assert time.monotonic() - begin < 10
        assert ready(served) == 0


def test_a_client_that_never_ends_does_not_hold_up_the_end(start: Start) -> None:
    with start() as served, connect(served) as client:
        client.sendall(HEAD + BODY[:20])
        time.sleep(0.3)
        begin = time.monotonic()
        served.terminate()
        assert served.exit_code() == 0
        assert time.monotonic() - begin < 10


def test_a_client_that_reads_nothing_does_not_hold_up_the_end(start: Start) -> None:
    """It asks for a megabyte or two and leaves them where they are."""
    crowd = [{"message_id": n, "text": "", "participant_id": n} for n in range(2_000)]
    body = json.dumps({"chats": [{"chat_id": 1, "messages": crowd}] * 8}).encode()
    head = HEAD.replace(b"/predict", b"/predict_batch").replace(str(len(BODY)).encode(), str(len(body)).encode())
    with start() as served, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        address = urlsplit(served.url)
        client.connect((address.hostname, address.port))
        client.sendall(head + body)
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        begin = time.monotonic()
        served.terminate()
        assert served.exit_code() == 0
        assert time.monotonic() - begin < 10


def test_clients_that_hung_up_do_not_hold_up_the_end(start: Start) -> None:
    with start() as served:
        for _ in range(10):
            with connect(served) as client:
                client.sendall(HEAD + BODY[:20])
        time.sleep(0.5)
        begin = time.monotonic()
        served.terminate()
        assert served.exit_code() == 0
        assert time.monotonic() - begin < GIVE_UP_AFTER - 1, "it was not given up, there was nothing to wait for"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_is_replaced(start: Start, workers: int) -> None:
    """Under load: within 20 seconds there are as many workers as before, all serve, and nothing else went wrong."""
    with start(WORKERS=str(workers)) as served:
        ends = threading.Event()
        statuses: list[int] = []

        def ask() -> None:
            while not ends.is_set():
                try:
                    statuses.append(send(f"{served.url}/predict", CURL_CHAT).status)
                except OSError:
                    statuses.append(0)

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            time.sleep(0.5)
            before = served.workers()
            assert len(before) == workers
            served.kill(before[0])
            killed = time.monotonic()
            wait_until(lambda: len(new := served.workers()) == workers and before[0] not in new, 20)
            wait_until(lambda: ready(served) == HTTPStatus.OK, 20 - (time.monotonic() - killed))
            answered = statuses.count(200)
            wait_until(lambda: statuses.count(200) > answered + 20, 20)
        finally:
            ends.set()
            for client in clients:
                client.join()
        assert set(statuses) <= {0, 200}
        assert statuses.count(0) <= len(clients), "only what the killed worker was at is lost"


def test_ctrl_c_ends_it(start: Start) -> None:
    with start() as served:
        if hasattr(served, "server"):
            served.server.process.send_signal(signal.SIGINT)
        else:
            served.container.exec("sh", "-c", "kill -INT 1")
        assert served.exit_code() == 0


def test_what_never_ends_is_given_up() -> None:
    """A process whose server does not stop at SIGTERM ends all the same, as if it had."""
    script = """
import asyncio, signal
from serving import shutdown
shutdown.STOP_AFTER, shutdown.GIVE_UP_AFTER = 0.1, 0.5
signal.signal(signal.SIGTERM, lambda *_: print("told to stop", flush=True))
async def run():
    shutdown.Shutdown().watch()
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(30)
    print("went on")
asyncio.run(run())
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "told to stop\n")
