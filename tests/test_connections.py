"""The rules of `serving/http/connections.py`, with uvicorn in a thread.

Timeouts are shortened. A test waits for what has to happen, and fails only where it never does.
"""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from serving.errors import MAX_HEAD_BYTES, Problem
from serving.http import connections
from tests.conftest import wait_until
from tests.wire import CHUNKED, Uvicorn, read_response, sent_before_the_end, serving

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = GET.replace(b"/ ", b"/?wait=0.3 ", 1)
LARGE = 50_000_000  # bytes of a response, which the buffers of no socket hold
SHORT = 0.2  # seconds of a timeout that is waited for


async def echo(request: Request) -> PlainTextResponse:
    await asyncio.sleep(float(request.query_params.get("wait", 0)))
    return PlainTextResponse(await request.body())


async def early(_: Request, __: Exception | None = None) -> PlainTextResponse:
    return PlainTextResponse("too large", 413)


async def headers(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse(list(request.headers))


async def stream(request: Request) -> StreamingResponse:
    parts = int(request.query_params["parts"])
    return StreamingResponse((b"x" * (LARGE // parts) for _ in range(parts)), headers={"Content-Length": str(LARGE)})


APP = Starlette(
    routes=[
        Route("/", echo, methods=["GET", "POST"]),
        Route("/early", early, methods=["POST"]),
        Route("/headers", headers, methods=["POST"]),
        Route("/stream", stream, methods=["GET", "POST"]),
    ],
    exception_handlers={ClientDisconnect: early},  # a client that disconnects is no fault of the app
)


@pytest.fixture(scope="module")
def running_app() -> Iterator[Uvicorn]:
    with serving(APP) as server:
        yield server


@pytest.fixture
def served(running_app: Uvicorn) -> Uvicorn:
    wait_until(lambda: running_app.connections() == 0)
    return running_app


# What is answered: what is sent, and the responses, by their body or their status


def framed(body: bytes) -> list[bytes]:
    """Return the end of a head and a body, with a length and in chunks."""
    chunks = CHUNKED + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    return [b"Content-Length: %d\r\n\r\n" % len(body) + body, chunks]


POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
EARLY = POST.replace(b"/ ", b"/early ", 1)
OFFERS = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Version: 13\r\n",
    b"upgrade: TLS/1.0\r\nconnection: keep-alive, UPGRADE\r\nUpgrade: irc/6.9\r\n",
]
OFFERED = [POST + offer + body for offer in OFFERS for body in framed(b"hello")]
SIZES = (400_000, 5_000_000)
TOO_LARGE = [offer + body for offer in (b"", OFFERS[0]) for size in SIZES for body in framed(b"x" * size)]
LATE = POST.replace(b"/ ", b"/headers ", 1) + CHUNKED + b"5\r\nhello\r\n0\r\nX-Late: 1\r\n\r\n"
PIPELINE = [SLOW, *(POST + framed(b"%d" % number)[0] for number in range(9))]

Responses = list[bytes | int]
KEPT: dict[str, tuple[bytes, Responses]] = {
    **{f"an offered upgrade {at}": (sent, [b"hello"]) for at, sent in enumerate(OFFERED)},
    **{f"two offers {at}": (sent * 2, [b"hello", b"hello"]) for at, sent in enumerate(OFFERED)},
    "an early error": (EARLY + framed(b"hello")[0], [413]),
    "a head at its limit": (GET.replace(b"x", b"x\r\nX: " + b"y" * 65_000), [200]),
    "a coding in other letters": (POST + framed(b"hello")[1].replace(b"chunked", b"Chunked "), [b"hello"]),
    "the fields of a trailer": (LATE, [b'["host","transfer-encoding"]']),
    "a pipeline": (b"".join(PIPELINE), [200, *(b"%d" % number for number in range(9))]),
}
CLOSED: dict[str, tuple[bytes, Responses]] = {
    "an offer and the end": (OFFERED[0].replace(b"Upgrade,", b"close, upgrade,", 1), [b"hello"]),
    "HTTP/1.0": (POST.replace(b"1.1", b"1.0") + framed(b"hello")[0], [b"hello"]),
    "an early error over HTTP/1.0": ((EARLY + TOO_LARGE[0]).replace(b"/1.1", b"/1.0", 1), [413]),
    **{f"an early error to a large body {at}": (EARLY + body, [413]) for at, body in enumerate(TOO_LARGE)},
}
ANSWERED = {**KEPT, **CLOSED}
# an early error comes before the last byte
BYTE_BY_BYTE = [name for name, (sent, _) in ANSWERED.items() if len(sent) < 1_000 and "early" not in name]


@pytest.mark.parametrize(
    ("name", "size"), [*((name, LARGE) for name in ANSWERED), *((name, 1) for name in BYTE_BY_BYTE)]
)
def test_what_is_answered(served: Uvicorn, name: str, size: int) -> None:
    sent, expected = ANSWERED[name]
    with served.connect() as (client, stream):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), size):
            client.sendall(sent[start : start + size])
        for one in expected:
            response = read_response(stream)
            assert one in (response.content, response.status)
        assert response.headers.get("connection") == ("close" if name in CLOSED else None)
        if name in CLOSED:
            assert stream.read() == b""
        else:
            client.sendall(GET)
            assert read_response(stream).status == 200


def test_a_response_that_begins_before_its_request_is_complete_is_the_last(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(POST.replace(b"/ ", b"/stream?parts=50 ", 1) + b"Content-Length: 1\r\n\r\n")
        client.recv(1, socket.MSG_PEEK)
        client.sendall(b"x")
        response = read_response(stream)
        assert (len(response.content), response.headers["connection"]) == (LARGE, "close")
        assert stream.read() == b""


# What is rejected

NOT_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6 secret\r\n",
    "CONNECT": b"CONNECT secret:443 HTTP/1.1\r\nHost: secret:443\r\n\r\n",
    "a path that is none": b"GET secret HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: secret\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n{}",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "a length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 1\r\n" + CHUNKED,
    "random": random.Random(1).randbytes(100_000),  # noqa: S311
}
REJECTED = {
    **{name: (sent, Problem.NOT_HTTP) for name, sent in NOT_HTTP.items()},
    "a large head": (GET.replace(b"x", b"x\r\nX: " + b"y" * 66_000), Problem.HEAD_TOO_LARGE),
    "a head without an end": (b"GET / HTTP/1.1\r\nX: " + b"y" * 6_000_000, Problem.HEAD_TOO_LARGE),
    "another coding": (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Problem.TRANSFER_CODING),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_rejected_gets_the_one_shape_and_a_line_in_the_log(
    served: Uvicorn, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    sent, problem = REJECTED[name]
    error = problem.text.format(limit=MAX_HEAD_BYTES)
    with caplog.at_level(logging.INFO), served.connect() as (client, stream):
        client.sendall(sent)
        response = read_response(stream)
        assert stream.read() == b""
    assert (response.status, response.headers["connection"]) == (problem.status, "close")
    assert response.headers["content-type"] == "application/json"
    assert "date" in response.headers
    assert response.json == {"error": error, "detail": []}
    assert caplog.messages == [f"a request {problem.status}: {error}"]


@pytest.mark.parametrize(
    "sent",
    [SLOW * 2 + b"\x16\x03\x01" * 10, SLOW.replace(b"\r\n\r\n", b"\r\n" + CHUNKED) + b"no number"],
    ids=["behind two requests", "in a body"],
)
def test_what_is_not_http_gets_no_response_in_the_place_of_another_one(
    served: Uvicorn, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    caplog.set_level(logging.INFO)
    with served.connect() as (client, stream), suppress(ConnectionError):
        client.sendall(sent)
        assert stream.read() == b""
    wait_until(lambda: not served.tasks() and not served.connections())
    assert caplog.messages == []


ENDLESS = {
    "header": b"POST / HTTP/1.1\r\nX: ",
    "headers": b"POST / HTTP/1.1\r\nX: y\r\n",
    "path": b"GET /",
    "trailers": b"POST / HTTP/1.1\r\n" + CHUNKED + b"0\r\n",
    "chunk extension": b"POST / HTTP/1.1\r\n" + CHUNKED + b"5;x=",
}


@pytest.mark.parametrize("where", ENDLESS)
def test_an_endless_head_is_cut_off(served: Uvicorn, where: str) -> None:
    """The same holds for what follows a body in chunks."""
    part = b"X: y\r\n" * 10_000 if ENDLESS[where].endswith(b"\n") else b"a" * 60_000
    with served.connect() as (client, _):
        assert sent_before_the_end(client, ENDLESS[where], part) < 3 * connections.MAX_DISCARDED_BYTES


# Timeouts


def runs(served: Uvicorn) -> bool:
    """Tell whether the timeout of the one connection runs."""
    return any(vars(protocol).get("_timer") for protocol in served.server.server_state.connections)


HALF = b"GET / HTTP/1.1\r\nHost: "


@pytest.mark.parametrize(
    ("sent", "trickled"),
    [([b""], 0), ([b"\r\n"], 0), ([HALF], 0), ([HALF], 1_000), ([GET, b"\r\n"], 0), ([GET, HALF], 0)],
)
def test_a_head_that_never_comes_times_out(
    monkeypatch: pytest.MonkeyPatch, served: Uvicorn, sent: list[bytes], trickled: int
) -> None:
    monkeypatch.setattr(connections, "WAIT_SECONDS", SHORT)
    with served.connect() as (client, stream), suppress(ConnectionError):
        for part in sent:
            client.sendall(part)
            if part == GET:
                assert read_response(stream).status == 200
        for _ in range(trickled):
            client.sendall(b"x")
            time.sleep(0.01)
        assert stream.read() == b""


def test_bodies_responses_and_pauses_are_not_part_of_the_head(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        wait_until(lambda: runs(served))
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        wait_until(lambda: not runs(served))
        client.sendall(b"}")
        assert read_response(stream).content == b"{}"
        assert not runs(served)
        client.sendall(b"GET / HTTP/1.1\r\n")
        wait_until(lambda: runs(served))


@pytest.mark.parametrize("parts", [1, 50])
@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
def test_a_response_that_is_not_read_times_out(
    monkeypatch: pytest.MonkeyPatch, served: Uvicorn, parts: int, connection: bytes
) -> None:
    with served.connect() as (client, _):
        wait_until(lambda: runs(served))  # for the head, whose timeout stays as it is
        monkeypatch.setattr(connections, "WAIT_SECONDS", SHORT)
        client.sendall(b"GET /stream?parts=%d HTTP/1.1\r\nHost: x\r\nConnection: %b\r\n\r\n" % (parts, connection))
        read = len(client.recv(15))
        wait_until(lambda: not served.tasks() and not served.connections())
        with suppress(ConnectionError):
            while part := client.recv(1_000_000):
                read += len(part)
        assert read < LARGE


def test_the_timeout_of_a_response_stops_once_it_is_read(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(b"GET /stream?parts=50 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: runs(served))
        assert len(read_response(stream).content) == LARGE
        wait_until(lambda: not runs(served))
        client.sendall(GET)
        assert read_response(stream).status == 200


def test_an_idle_connection_is_kept_longer_than_load_balancers_keep_theirs(served: Uvicorn) -> None:
    with served.connect() as (client, stream):
        client.sendall(GET)
        assert read_response(stream).status == 200
        (protocol,) = map(vars, served.server.server_state.connections)
        wait_until(lambda: protocol["timeout_keep_alive_task"] is not None)
        assert protocol["timeout_keep_alive_task"].when() - protocol["loop"].time() > 60
        assert not runs(served)


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
    with served.connect() as (client, stream):
        wait_until(lambda: runs(served))  # for the head, whose timeout stays as it is
        monkeypatch.setattr(connections, "WAIT_SECONDS", SHORT)
        client.sendall(b"POST /early HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        assert read_response(stream).status == 413
        assert stream.read() == b"", "the end of the response comes at once"
        while served.connections():
            with suppress(ConnectionError):
                client.sendall(b"x" * trickles)
            time.sleep(0.02)


def test_shutdown_closes_idle_connections_and_waits_for_responses() -> None:
    with serving(APP) as served, served.connect() as (idle, idle_stream), served.connect() as (client, stream):
        idle.sendall(GET)
        assert read_response(idle_stream).status == 200
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
        wait_until(lambda: served.tasks() == 1)
        served.server.should_exit = True
        assert idle_stream.read() == b""
        client.sendall(b"llo")
        response = read_response(stream)
        assert (response.content, response.headers["connection"]) == (b"hello", "close")
        assert stream.read() == b""
