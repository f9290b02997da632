"""Connections that demand too much, close too early, or offer what the server does not speak."""

import asyncio
import json
import logging
import random
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from serving.http import connections
from serving.http.connections import MAX_DISCARDED_BYTES, MAX_HEAD_BYTES
from tests.conftest import CURL_CHAT, send, wait_until
from tests.faults.conftest import Start
from tests.faults.wire import Uvicorn, read_response, serving

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
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 50_000_000  # bytes of a response, which the buffers of no socket hold


@pytest.mark.parametrize("where", list(ENDLESS))
def test_an_endless_head_is_cut_off(start: Start, where: str) -> None:
    """It takes no memory, and others are served; the same holds for what follows a body in chunks."""
    endless = ENDLESS[where]
    part = b"X: y\r\n" * 10_000 if endless.endswith(b"\n") else b"a" * 60_000
    with start(WORKERS="1") as served:
        before = served.memory()
        address = urlsplit(served.url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as client:
            assert sent_before_the_end(client, endless, part) < 3 * MAX_DISCARDED_BYTES
        assert served.memory() < before + 20e6
        if where in ("header", "headers", "path"):  # with the others a response is on its way, or the app logs it
            assert "431: the head is larger than" in served.log()
        assert send(f"{served.url}/predict", CURL_CHAT).status == 200


def sent_before_the_end(client: socket.socket, first: bytes, more: bytes) -> int:
    """Send up to 240 MB; returns how many bytes the kernel took before the server closed the connection."""
    sent = 0
    try:
        client.sendall(first)
        for _ in range(4_000):
            client.sendall(more)
            sent += len(more)
    except OSError:
        pass
    return sent


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
        paths = {
            "/": self.echo,
            "/early": self.early,
            "/headers": self.headers,
            "/large": self.large,
            "/stream": self.stream,
        }
        response = paths[scope["path"]]
        try:
            await (await response(request))(scope, receive, send)
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

    async def large(self, _: Request) -> PlainTextResponse:
        return PlainTextResponse("x" * LARGE)

    async def stream(self, request: Request) -> StreamingResponse:
        async def parts() -> Any:
            try:
                for _ in range(int(request.query_params["parts"])):
                    yield b"x" * 1_000_000
            finally:
                self.ended += 1

        return StreamingResponse(parts(), headers={"Content-Length": f"{request.query_params['parts']}000000"})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(params=["uvloop", "asyncio"])
def served(request: pytest.FixtureRequest, app: App) -> Iterator[Uvicorn]:
    with serving(app, request.param, timeout_keep_alive=20) as server:
        yield server


def read_to_the_end(client: socket.socket) -> int:
    """Return how many bytes come before the connection ends, in whichever way."""
    read = 0
    try:
        while part := client.recv(1_000_000):
            read += len(part)
    except ConnectionError:
        pass
    return read


# Timeouts


@pytest.mark.parametrize(
    ("before", "sent"),
    [(b"", b""), (b"", b"\r\n"), (b"", b"GET / HTTP/1.1\r\nHost"), (GET, b"\r\n"), (GET, b"GET / HTTP/1.1\r\nHost")],
    ids=["nothing", "a line", "half a head", "a line after a request", "half a head after a request"],
)
def test_a_head_that_never_comes_times_out(
    monkeypatch: pytest.MonkeyPatch, served: Uvicorn, before: bytes, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with served.connect() as (client, stream):
        if before:
            client.sendall(before)
            assert read_response(stream).status == 200
        begin = time.monotonic()
        client.sendall(sent)
        assert stream.read() == b""
        assert 0.3 < time.monotonic() - begin < 5


def test_the_timeout_of_a_head_starts_once(monkeypatch: pytest.MonkeyPatch, served: Uvicorn) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    with served.connect() as (client, _):
        begin = time.monotonic()
        with suppress(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 1_000:
                client.sendall(bytes([byte]))
                time.sleep(0.02)
        assert 0.3 < time.monotonic() - begin < 3


def test_bodies_responses_and_pauses_are_not_part_of_the_head(monkeypatch: pytest.MonkeyPatch, served: Uvicorn) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    request = b"POST /?wait=0.6 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
    with served.connect() as (client, stream):
        for _ in range(2):
            client.sendall(request)
            time.sleep(0.6)
            client.sendall(b"{}")
            assert read_response(stream).body == b"{}"
            time.sleep(0.6)
        client.sendall(request.replace(b"Host: x", b"Host: x\r\nX: " + b"y" * (MAX_HEAD_BYTES // 2)) + b"{}")
        assert read_response(stream).body == b"{}"


@pytest.mark.parametrize(
    ("option", "least", "most"), [({}, 0.9, 1.9), ({"timeout_keep_alive": 2}, 1.9, 4)], ids=["setting", "option"]
)
def test_idle_connections_are_kept_for_the_time_set(
    monkeypatch: pytest.MonkeyPatch, app: App, option: dict[str, int], least: float, most: float
) -> None:
    """The timeout of the head, which is shorter here, does not count; uvicorn's own option does."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connections.HttpProtocol, "keep_alive_seconds", 1.0)
    with serving(app, "uvloop", **option) as served, served.connect() as (client, stream):
        client.sendall(GET)
        assert read_response(stream).status == 200
        begin = time.monotonic()
        assert stream.read() == b""
        assert least < time.monotonic() - begin < most


@pytest.mark.parametrize("path", [b"/large", b"/stream?parts=50"])
@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
def test_a_response_that_is_not_read_times_out(
    monkeypatch: pytest.MonkeyPatch, app: App, served: Uvicorn, path: bytes, connection: bytes
) -> None:
    """Whether it has been written as a whole or is blocked in the middle, on a connection to be kept or closed."""
    monkeypatch.setattr(connections, "READ_SECONDS", 0.5)
    with served.connect() as (client, _):
        client.sendall(b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: %b\r\n\r\n" % (path, connection))
        wait_until(lambda: served.connections() == 1)
        begin = time.monotonic()
        wait_until(lambda: served.connections() == 0, 5)
        assert time.monotonic() - begin > 0.3
        assert path == b"/large" or app.ended == 1, "the app still holds the stream"
        assert read_to_the_end(client) < LARGE


def test_the_timeout_of_a_response_does_not_end_a_later_one(monkeypatch: pytest.MonkeyPatch, served: Uvicorn) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 2.0)
    request = GET.replace(b"/ ", b"/large ", 1)
    with served.connect() as (client, stream):
        client.sendall(request)
        assert len(read_response(stream).body) == LARGE
        time.sleep(1.2)
        client.sendall(request)
        time.sleep(1.2)  # until after the end of the first timeout
        assert len(read_response(stream).body) == LARGE


def test_a_stream_that_is_read_slowly_does_not_time_out(monkeypatch: pytest.MonkeyPatch, served: Uvicorn) -> None:
    """The timeout starts again whenever the client has caught up."""
    monkeypatch.setattr(connections, "READ_SECONDS", 1.0)
    with served.connect() as (client, stream):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(b"GET /stream?parts=20 HTTP/1.1\r\nHost: x\r\n\r\n")
        while stream.readline() != b"\r\n":
            pass
        begin = time.monotonic()
        for _ in range(20):
            assert len(stream.read(1_000_000)) == 1_000_000
            time.sleep(0.1)
        assert time.monotonic() - begin > 1.5
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
@pytest.mark.parametrize("delivery", ["at once", "head and body", "byte by byte", "two requests at once"])
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
                "head and body": [head, body],
                "byte by byte": [bytes([byte]) for byte in head + body],
                "two requests at once": [head + body + head + body],
            }[delivery]
            for part in parts:
                client.sendall(part)
                time.sleep(0.1 if delivery == "head and body" else 0)
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


def test_many_offers_in_one_packet_are_parsed_in_linear_time(served: Uvicorn) -> None:
    offer = b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    with served.connect() as (client, stream):
        begin = time.monotonic()
        client.sendall(offer * 3_000)
        for _ in range(3_000):
            assert read_response(stream).status == 200
        assert time.monotonic() - begin < 5


# Lingering close


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [400_000, 1_200_000, 5_000_000, 20_000_000])
def test_an_early_response_reaches_a_client_that_writes_before_it_reads(
    served: Uvicorn, size: int, framing: str
) -> None:
    head = b"POST /early HTTP/1.1\r\nHost: x\r\n"
    if framing == "length":
        sent = head + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
    else:
        sent = head + CHUNKED + b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
    for _ in range(10):
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
        assert (
            sent_before_the_end(client, b"POST /early HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"x" * 60_000)
            < 30e6
        )
        wait_until(lambda: served.connections() == 0, 5)


@pytest.mark.parametrize("trickles", [False, True])
def test_the_discarded_rest_of_a_request_is_limited_in_time(
    monkeypatch: pytest.MonkeyPatch, served: Uvicorn, trickles: bool
) -> None:
    monkeypatch.setattr(connections, "LINGER_STALL_SECONDS", 0.5)
    monkeypatch.setattr(connections, "LINGER_SECONDS", 1.0)
    with served.connect() as (client, stream):
        client.sendall(b"POST /early HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert read_response(stream).status == 413
        assert stream.read() == b"", "the end of the response comes at once"
        begin = time.monotonic()
        while served.connections() and time.monotonic() < begin + 5:
            if trickles:
                client.sendall(b"x")
            time.sleep(0.05)
        least = 0.8 if trickles else 0.3
        assert least < time.monotonic() - begin < least + 1


def test_a_client_that_closes_ends_the_lingering(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(b"POST /early HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert read_response(stream).status == 413
        assert served.connections() == 1
    wait_until(lambda: served.connections() == 0, 2)


def test_a_head_that_is_too_large_is_answered(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(100):
            client.sendall(b"y" * 60_000)
        response = read_response(stream)
        assert (response.status, response.headers["connection"]) == (431, "close")
        assert json.loads(response.body) == {"error": "the head is larger than 65536 bytes", "detail": []}


@pytest.mark.parametrize(("size", "status"), [(65_000, 200), (66_000, 431), (100_000, 431)])
def test_a_head_that_comes_at_once_has_the_same_limit(served: Uvicorn, size: int, status: int) -> None:
    with served.connect() as (client, stream):
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * size + b"\r\n\r\n")
        assert read_response(stream).status == status


# What is not HTTP


NOT_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version of its own": b"GET / HTTP/7.8\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6 secret\r\n",
    "CONNECT": b"CONNECT secret:443 HTTP/1.1\r\nHost: secret:443\r\n\r\n",
    "a header with a space": b"GET / HTTP/1.1\r\nsecret secret: x\r\n\r\n",
    "a path that is none": b"GET secret HTTP/1.1\r\n\r\n",
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


def test_a_body_that_is_not_http_is_answered_and_the_app_told(app: App, served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"5\r\nhello\r\n")
        wait_until(lambda: app.received == ["http.request"])
        client.sendall(b"no number\r\n")
        response = read_response(stream)
        assert (response.status, response.headers["connection"]) == (400, "close")
        assert json.loads(response.body) == {"error": "the request is not valid HTTP", "detail": []}
        wait_until(lambda: app.received[-1] == "http.disconnect", 2)


def test_what_follows_a_request_does_not_take_its_response(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(GET.replace(b"/ ", b"/?wait=0.3 ", 1) * 2 + b"\x16\x03\x01" * 1_000_000)
        assert [read_response(stream).status for _ in range(2)] == [200, 200]
        assert stream.read() == b""


# Requests that come without waiting for the response to the one before


@pytest.mark.parametrize("bad", [b"POST / HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"z\r\n", b"\x16\x03\x01"])
@pytest.mark.parametrize("good", [1, 2])
def test_a_bad_request_takes_no_response_from_earlier_ones(
    served: Uvicorn, caplog: pytest.LogCaptureFixture, bad: bytes, good: int
) -> None:
    with caplog.at_level(logging.INFO), served.connect() as (client, stream):
        client.sendall(GET.replace(b"/ ", b"/?wait=0.2 ", 1) * good + bad)
        assert [read_response(stream).status for _ in range(good)] == [200] * good
        assert stream.read() == b""
    assert [line.getMessage() for line in caplog.records] == ["a request 400: the request is not valid HTTP"]


@pytest.mark.parametrize("requests", [1, 2, 3])
def test_a_client_that_is_gone_leaves_nothing_in_the_log(
    served: Uvicorn, caplog: pytest.LogCaptureFixture, requests: int
) -> None:
    with caplog.at_level(logging.INFO):
        with served.connect() as (client, _):
            client.sendall(GET.replace(b"/ ", b"/?wait=0.2 ", 1) * requests)
            time.sleep(0.05)
        wait_until(lambda: served.connections() == 0)
        time.sleep(0.5)
    assert caplog.records == []


@pytest.mark.parametrize("rest", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel"])
@pytest.mark.parametrize("requests", [1, 3])
def test_a_client_that_closes_its_side_gets_all_responses(served: Uvicorn, requests: int, rest: bytes) -> None:
    with served.connect() as (client, stream):
        client.sendall(GET.replace(b"/ ", b"/?wait=0.2 ", 1) * requests + rest)
        client.shutdown(socket.SHUT_WR)
        assert [read_response(stream).status for _ in range(requests)] == [200] * requests
        assert stream.read() == b""
    wait_until(lambda: served.connections() == 0)


def test_a_client_that_closes_its_side_too_early_gets_nothing(app: App, served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
        client.shutdown(socket.SHUT_WR)
        assert stream.read() == b""
    wait_until(lambda: app.received[-1:] == ["http.disconnect"])


# Fields of the head, and of the trailer


@pytest.mark.parametrize("at_once", [True, False])
def test_a_trailer_changes_nothing_but_the_end_of_the_connection(served: Uvicorn, at_once: bool) -> None:
    """The parser obeys its `Connection: close`, and takes no other request; the client has to be told."""
    head, rest = b"POST /headers HTTP/1.1\r\nHost: x\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n%b\r\n"
    with served.connect() as (client, stream):
        for trailer, connection in ((b"X-Late: 1\r\n", None), (b"Connection: close\r\n", "close")):
            for part in [head + rest % trailer] if at_once else [head, rest % trailer]:
                client.sendall(part)
                time.sleep(0.05)
            response = read_response(stream)
            assert json.loads(response.body) == ["host", "transfer-encoding"]
            assert response.headers.get("connection") == connection
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: [::1]:8000 \t\r\n\r\n", 200),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked \r\n\r\n0\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", 200),
    ],
)
def test_fields_of_the_head_are_checked(served: Uvicorn, head: bytes, status: int) -> None:
    with served.connect() as (client, stream):
        client.sendall(head)
        assert read_response(stream).status == status


# What has to go on working


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


def test_a_body_that_waits_for_100_is_asked_for_once_it_is_wanted(served: Uvicorn) -> None:
    request = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with served.connect() as (client, stream):
        client.sendall(request % b"/")
        assert stream.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        response = read_response(stream)
        assert response.body == b"hello"
        assert "connection" not in response.headers
        client.sendall(request % b"/early")
        response = read_response(stream)
        assert (response.status, response.headers["connection"]) == (413, "close")


def test_shutdown_closes_idle_connections_and_waits_for_responses(app: App) -> None:
    with (
        serving(app, "uvloop") as served,
        served.connect() as (idle, idle_stream),
        served.connect() as (client, stream),
    ):
        idle.sendall(GET)
        assert read_response(idle_stream).status == 200
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
        time.sleep(0.2)
        served.server.should_exit = True
        assert idle_stream.read() == b""
        client.sendall(b"llo")
        response = read_response(stream)
        assert (response.body, response.headers["connection"]) == (b"hello", "close")
        assert stream.read() == b""


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
