"""Connections to the running service that demand too much, or offer what it does not speak."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from serving.http.connections import MAX_DISCARDED_BYTES
from tests.conftest import CURL_CHAT, running, send
from tests.faults.conftest import Process
from tests.wire import CHUNKED, sent_before_the_end

pytestmark = pytest.mark.faults
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
ENDLESS = {
    "header": HEAD + b"X: ",
    "headers": HEAD + b"X: y\r\n",
    "path": b"GET /",
    "trailers": b"GET /livez HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"0\r\n",
    "chunk extension": HEAD + b"Content-Type: application/json\r\n" + CHUNKED + b"5;x=",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("served"), WORKERS="1") as server:
        yield Process(server)


@pytest.mark.parametrize("where", list(ENDLESS))
def test_an_endless_head_is_cut_off(served: Process, where: str) -> None:
    """It takes no memory, and others are served; the same holds for what follows a body in chunks."""
    endless = ENDLESS[where]
    part = b"X: y\r\n" * 10_000 if endless.endswith(b"\n") else b"a" * 60_000
    before = served.memory()
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        assert sent_before_the_end(client, endless, part) < 3 * MAX_DISCARDED_BYTES
    assert served.memory() < before + 20e6
    assert send(f"{served.url}/predict", CURL_CHAT).status == 200


def test_there_are_no_websockets(served: Process) -> None:
    address = urlsplit(served.url)
    for path in ("/static_content/swagger-ui.css", "/predict", "/nothing"):
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            client.sendall(
                head.encode() + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert int(client.recv(100).split()[1]) in (200, 404, 405), path
    assert "Traceback" not in served.log()
