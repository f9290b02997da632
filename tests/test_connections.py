"""The rules of `serving/http/connections.py`, with uvicorn in a thread.

Timeouts are shortened. A test waits for what has to happen, and fails only where it never does.
"""

import asyncio
import json
import logging
import random
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from serving.http import connections
from tests.conftest import wait_until
from tests.wire import CHUNKED, Uvicorn, read_response, sent_before_the_end, serving

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = GET.replace(b"/ ", b"/?wait=0.1 ", 1)
LARGE = 50_000_000  # bytes of a response, which the buffers of no socket hold
SHORT = 0.2  # seconds of a timeout that is waited for


class App:
    """An ASGI app with a path for each case; remembers what it was told."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.ended = 0  # streams, complete or not

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def receive_and_note() -> Any:
            message = await receive()
            self.received.append(message["type"])
            return message

        request = Request(scope, receive_and_note)
        paths = {"/": self.echo, "/early": self.early, "/headers": self.headers, "/stream": self.stream}
        try:
            await (await paths[scope["path"]](request))(scope, receive, send)
        except Exception:  # a client that disconnects is no fault of the app
            if "http.disconnect" not in self.received:
                raise

    async def echo(self, request: Request) -> PlainTextResponse:
        await asyncio.sleep(float(request.query_params.get("wait", 0)))
        return PlainTextResponse(await request.body())

    async def early(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("too large", 413)

    async def headers(self, request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse(list(request.headers))

    async def stream(self, request: Request) -> StreamingResponse:
        count, size = int(request.query_params["parts"]), int(request.query_params["size"])

        async def parts() -> Any:
            try:
                for _ in range(count):
                    yield b"x" * size
            finally:
                self.ended += 1

        return StreamingResponse(parts(), headers={"Content-Length": str(count * size)})


@pytest.fixture(scope="module")
def running_app() -> Iterator[tuple[App, Uvicorn]]:
    app = App()
    with serving(app) as server:
        yield app, server


@pytest.fixture
def app(running_app: tuple[App, Uvicorn]) -> App:
    app, _ = running_app
    app.received.clear()
    app.ended = 0
    return app


@pytest.fixture
def served(running_app: tuple[App, Uvicorn]) -> Uvicorn:
    _, served = running_app
    wait_until(lambda: served.connections() == 0)
    return served


def read_to_the_end(client: socket.socket) -> int:
    """Return how many bytes come before the connection ends, in whichever way."""
    read = 0
    with suppress(ConnectionError):
        while part := client.recv(1_000_000):
            read += len(part)
    return read


# Timeouts


def runs(served: Uvicorn, timeout: str) -> bool:
    """Tell whether a timeout of the one connection runs."""
    return any(vars(protocol)[timeout]._timer for protocol in served.server.server_state.connections)


@pytest.mark.parametrize(
    ("before", "sent"),
    [(b"", b""), (b"", b"\r\n"), (b"", b"GET / HTTP/1.1\r\nHost"), (GET, b"\r\n"), (GET, b"GET / HTTP/1.1\r\nHost")],
    ids=["nothing", "a line", "half a head", "a line after a request", "half a head after a request"],
)
def test_a_head_that_never_comes_times_out(
    monkeypatch: pytest.MonkeyPatch, served: Uvicorn, before: bytes, sent: bytes
) -> None:
    if not before:
        monkeypatch.setattr(connections, "HEAD_SECONDS", SHORT)
    with served.connect() as (client, stream):
        if before:
            client.sendall(before)
            assert read_response(stream).status == 200
            monkeypatch.setattr(connections, "HEAD_SECONDS", SHORT)
        with suppress(ConnectionError):
            client.sendall(sent)
            assert stream.read() == b""


def test_a_head_that_trickles_times_out(monkeypatch: pytest.MonkeyPatch, served: Uvicorn) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", SHORT)
    with served.connect() as (client, _):
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        with suppress(ConnectionError):
            while True:
                client.sendall(b"y")
                time.sleep(0.01)


def test_bodies_responses_and_pauses_are_not_part_of_the_head(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        wait_until(lambda: runs(served, "_head_timeout"))
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        wait_until(lambda: not runs(served, "_head_timeout"))
        client.sendall(b"}")
        assert read_response(stream).body == b"{}"
        assert not runs(served, "_head_timeout")
        client.sendall(b"GET / HTTP/1.1\r\n")
        wait_until(lambda: runs(served, "_head_timeout"))


@pytest.mark.parametrize("query", [b"parts=1&size=50000000", b"parts=50&size=1000000"], ids=["at once", "in parts"])
@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
def test_a_response_that_is_not_read_times_out(
    monkeypatch: pytest.MonkeyPatch, app: App, served: Uvicorn, query: bytes, connection: bytes
) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", SHORT)
    with served.connect() as (client, _):
        client.sendall(b"GET /stream?%b HTTP/1.1\r\nHost: x\r\nConnection: %b\r\n\r\n" % (query, connection))
        wait_until(lambda: app.ended == 1)  # the app does not hold the stream
        wait_until(lambda: served.connections() == 0)
        assert read_to_the_end(client) < LARGE


def test_the_timeout_of_a_response_stops_once_it_is_read(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(b"GET /stream?parts=50&size=1000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: runs(served, "_read_timeout"))
        assert len(read_response(stream).body) == LARGE
        wait_until(lambda: not runs(served, "_read_timeout"))
        client.sendall(GET)
        assert read_response(stream).status == 200


# Upgrades

OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Version: 13\r\n",
    b"upgrade: TLS/1.0\r\nconnection: keep-alive, UPGRADE\r\nUpgrade: irc/6.9\r\n",
]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("delivery", ["at once", "byte by byte", "two requests at once"])
def test_an_offered_upgrade_is_ignored(served: Uvicorn, framing: str, delivery: str) -> None:
    if framing == "length":
        length, body = b"Content-Length: 11\r\n\r\n", b"hello there"
    else:
        length, body = CHUNKED, b"5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n"
    with served.connect() as (client, stream):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for offer in OFFERS:
            head = b"POST / HTTP/1.1\r\nHost: x\r\n" + offer + length
            parts = {
                "at once": [head + body],
                "byte by byte": [bytes([byte]) for byte in head + body],
                "two requests at once": [head + body + head + body],
            }[delivery]
            for part in parts:
                client.sendall(part)
            for _ in range(2 if delivery == "two requests at once" else 1):
                response = read_response(stream)
                assert (response.status, response.body) == (200, b"hello there")
                assert "connection" not in response.headers
            client.sendall(GET)
            assert read_response(stream).status == 200


def test_an_offered_upgrade_keeps_the_other_rules(served: Uvicorn) -> None:
    offer = b"POST %b HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: %b\r\nContent-Length: %d\r\n\r\n"
    with served.connect() as (client, stream):
        client.sendall(offer % (b"/early", b"upgrade", 5_000_000) + b"x" * 5_000_000)
        assert read_response(stream).status == 413
    with served.connect() as (client, stream):
        client.sendall(offer % (b"/", b"close, upgrade", 2) + b"{}")
        response = read_response(stream)
        assert (response.body, response.headers["connection"]) == (b"{}", "close")
        assert stream.read() == b""


# Lingering close


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [400_000, 5_000_000])
def test_an_early_response_reaches_a_client_that_writes_before_it_reads(
    served: Uvicorn, size: int, framing: str
) -> None:
    head = b"POST /early HTTP/1.1\r\nHost: x\r\n"
    if framing == "length":
        sent = head + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
    else:
        sent = head + CHUNKED + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
    for _ in range(5):
        with served.connect() as (client, stream):
            client.sendall(sent)
            response = read_response(stream)
            assert (response.status, response.headers["connection"]) == (413, "close")
            assert stream.read() == b""


def test_a_connection_is_kept_when_the_request_was_complete(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        for _ in range(3):
            client.sendall(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            response = read_response(stream)
            assert response.status == 413
            assert "connection" not in response.headers


def test_the_discarded_rest_of_a_request_is_limited_in_size(monkeypatch: pytest.MonkeyPatch, served: Uvicorn) -> None:
    monkeypatch.setattr(connections, "MAX_DISCARDED_BYTES", 1_000_000)
    with served.connect() as (client, _):
        head = b"POST /early HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"
        assert sent_before_the_end(client, head, b"x" * 60_000) < 30e6
        wait_until(lambda: served.connections() == 0)


@pytest.mark.parametrize("trickles", [False, True])
def test_the_discarded_rest_of_a_request_is_limited_in_time(
    monkeypatch: pytest.MonkeyPatch, served: Uvicorn, trickles: bool
) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", SHORT)
    with served.connect() as (client, stream):
        client.sendall(b"POST /early HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert read_response(stream).status == 413
        assert stream.read() == b"", "the end of the response comes at once"
        while served.connections():
            if trickles:
                with suppress(ConnectionError):
                    client.sendall(b"x")
            time.sleep(0.02)


# What is rejected


ENDLESS = {
    "header": b"POST / HTTP/1.1\r\nX: ",
    "headers": b"POST / HTTP/1.1\r\nX: y\r\n",
    "path": b"GET /",
    "trailers": b"POST / HTTP/1.1\r\n" + CHUNKED + b"0\r\n",
    "chunk extension": b"POST / HTTP/1.1\r\n" + CHUNKED + b"5;x=",
}


@pytest.mark.parametrize("where", list(ENDLESS))
def test_an_endless_head_is_cut_off(served: Uvicorn, where: str) -> None:
    """The same holds for what follows a body in chunks."""
    part = b"X: y\r\n" * 10_000 if ENDLESS[where].endswith(b"\n") else b"a" * 60_000
    with served.connect() as (client, _):
        assert sent_before_the_end(client, ENDLESS[where], part) < 3 * connections.MAX_DISCARDED_BYTES


@pytest.mark.parametrize(
    ("size", "end", "status"), [(65_000, b"\r\n\r\n", 200), (66_000, b"\r\n\r\n", 431), (6_000_000, b"", 431)]
)
def test_a_head_that_is_too_large_is_answered(served: Uvicorn, size: int, end: bytes, status: int) -> None:
    with served.connect() as (client, stream):
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * size + end)
        assert read_response(stream).status == status


NOT_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6 secret\r\n",
    "CONNECT": b"CONNECT secret:443 HTTP/1.1\r\nHost: secret:443\r\n\r\n",
    "a header with a space": b"GET / HTTP/1.1\r\nsecret secret: x\r\n\r\n",
    "a path that is none": b"GET secret HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: secret\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n{}",
    "a length in another notation": b"POST / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n{}",
    "a length of 30 digits": b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n{}",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "a length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 1\r\n" + CHUNKED,
    "random": random.Random(1).randbytes(100_000),  # noqa: S311
}


@pytest.mark.parametrize("name", list(NOT_HTTP))
def test_what_is_not_http_gets_the_one_shape_and_a_line_in_the_log(
    served: Uvicorn, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with caplog.at_level(logging.INFO), served.connect() as (client, stream):
        client.sendall(NOT_HTTP[name])
        response = read_response(stream)
        assert stream.read() == b""
    assert (response.status, response.headers["connection"]) == (400, "close")
    assert response.headers["content-type"] == "application/json"
    assert "date" in response.headers
    assert json.loads(response.body) == {"error": "the request is not valid HTTP", "detail": []}
    assert [line.getMessage() for line in caplog.records] == ["a request 400: the request is not valid HTTP"]


@pytest.mark.parametrize(
    "sent",
    [
        SLOW + b"\x16\x03\x01" * 10,
        SLOW * 2 + b"\x16\x03\x01" * 10,
        SLOW.replace(b"\r\n\r\n", b"\r\n" + CHUNKED) + b"no number",
    ],
    ids=["behind a request", "behind two requests", "in a body"],
)
def test_what_is_not_http_gets_no_response_in_the_place_of_an_earlier_one(
    served: Uvicorn, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    with served.connect() as (client, stream):
        client.sendall(sent)
        with suppress(ConnectionError):
            assert stream.read() == b""
    wait_until(lambda: not served.server.server_state.tasks)
    assert caplog.records == []


def test_the_fields_of_a_trailer_are_no_headers(served: Uvicorn) -> None:
    head, rest = b"POST /headers HTTP/1.1\r\nHost: x\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n"
    with served.connect() as (client, stream):
        client.sendall(head + rest)
        assert json.loads(read_response(stream).body) == ["host", "transfer-encoding"]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked \r\n\r\n0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 200),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    ],
)
def test_fields_of_the_head_are_checked(served: Uvicorn, head: bytes, status: int) -> None:
    with served.connect() as (client, stream):
        client.sendall(head)
        assert read_response(stream).status == status


# What has to go on working


def test_a_client_that_is_gone_leaves_nothing_in_the_log(served: Uvicorn, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        with served.connect() as (client, _):
            client.sendall(SLOW)
        wait_until(lambda: served.connections() == 0 and not served.server.server_state.tasks)
    assert caplog.records == []


def test_pipelined_requests_are_answered_in_order(served: Uvicorn) -> None:
    request = b"POST /?wait=%b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d"
    with served.connect() as (client, stream):
        client.sendall(b"".join(request % (b"0.2" if at == 0 else b"0", at) for at in range(10)))
        assert [read_response(stream).body for _ in range(10)] == [b"%d" % at for at in range(10)]
        client.sendall(GET)
        assert read_response(stream).status == 200


def test_http_1_0_closes_after_the_response(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
        response = read_response(stream)
        assert (response.body, response.headers["connection"]) == (b"hello", "close")
        assert stream.read() == b""


def test_shutdown_closes_idle_connections_and_waits_for_responses(app: App) -> None:
    with serving(app) as served, served.connect() as (idle, idle_stream), served.connect() as (client, stream):
        idle.sendall(GET)
        assert read_response(idle_stream).status == 200
        app.received.clear()
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
        wait_until(lambda: app.received == ["http.request"])
        served.server.should_exit = True
        assert idle_stream.read() == b""
        client.sendall(b"llo")
        response = read_response(stream)
        assert (response.body, response.headers["connection"]) == (b"hello", "close")
        assert stream.read() == b""
