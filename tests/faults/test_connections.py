"""Connections that want too much: a head without end, a head that never comes."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from serving import connections
from serving.connections import MAX_HEAD_BYTES, BoundedProtocol
from tests.conftest import CURL_CHAT, free_port, send, wait_until
from tests.faults.conftest import Start

pytestmark = pytest.mark.faults
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "header": HEAD + b"X: ",
    "headers": HEAD + b"X: y\r\n",
    "path": b"GET /",
    "trailers": b"GET /livez HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"0\r\n",
    "chunk extension": HEAD + b"Content-Type: application/json\r\n" + CHUNKED + b"5;x=",
}


@pytest.mark.parametrize("where", list(ENDLESS))
def test_a_head_without_end_is_cut_off(start: Start, where: str) -> None:
    """It takes no memory, and costs nobody else anything; nor does what follows a body in chunks."""
    endless = ENDLESS[where]
    part = b"X: y\r\n" * 10_000 if endless.endswith(b"\n") else b"a" * 60_000
    with start(WORKERS="1") as served:
        before = served.memory()
        address = urlsplit(served.url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            assert sent_before_the_end(client, endless, part) < 20e6
        assert served.memory() < before + 20e6
        if where in ("header", "headers", "path"):  # there is none where another answer is on its way
            assert "431: the head is larger than" in served.log()
        assert send(f"{served.url}/predict", CURL_CHAT).status == 200


def sent_before_the_end(client: socket.socket, first: bytes, more: bytes) -> int:
    """Send up to 60 MB; returns how many bytes were taken before the other side ended it."""
    sent = 0
    try:
        client.sendall(first)
        for _ in range(1_000):
            client.sendall(more)
            sent += len(more)
    except OSError:
        pass
    return sent


@contextmanager
def bounded(port: int) -> Iterator[None]:
    """Run uvicorn with the protocol in a thread."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).body()
        await PlainTextResponse("hello" if scope["method"] == "POST" else "x" * 50_000_000)(scope, receive, send)

    server = uvicorn.Server(
        uvicorn.Config(app, port=port, http=BoundedProtocol, lifespan="off", log_level="error", timeout_keep_alive=20)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"GET / HTTP/1.1\r\nHost"], ids=["nothing", "a line", "half a head"])
def test_a_head_that_never_comes_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    port = free_port()
    with bounded(port), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        begin = time.monotonic()
        client.sendall(sent)
        assert client.recv(100) == b""
        assert 0.3 < time.monotonic() - begin < 5


def test_a_request_takes_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on heads alone: bodies, answers, and pauses between requests are not its business."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    port = free_port()
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
    with bounded(port), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for _ in range(2):
            client.sendall(request)
            time.sleep(0.6)
            client.sendall(b"{}")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            time.sleep(0.6)
        client.sendall(request.replace(b"Host: x", b"Host: x\r\nX: " + b"y" * (MAX_HEAD_BYTES // 2)) + b"{}")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_an_answer_that_is_not_read_is_kept_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 0.5)
    port = free_port()
    with bounded(port), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1.5)
        read = 0
        try:
            while part := client.recv(1_000_000):
                read += len(part)
        except ConnectionError:
            pass
        assert read < 50_000_000


def test_there_are_no_websockets(start: Start) -> None:
    with start(WORKERS="1") as served:
        address = urlsplit(served.url)
        for path in ("/static_content/swagger-ui.css", "/predict", "/nothing"):
            with socket.create_connection((address.hostname, address.port), timeout=10) as client:
                head = f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                client.sendall(
                    head.encode() + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
                assert int(client.recv(100).split()[1]) in (200, 404, 405), path
        assert "Traceback" not in served.log()
