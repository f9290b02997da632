"""The prediction routes by themselves, in front of a service that a test controls."""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.access import Access
from serving.http.middleware import AccessAndErrors
from serving.http.predictions import PredictionRoutes

JSON = (b"content-type", b"application/json")


class Number(BaseModel):
    """What `/predict` takes here."""

    number: int


async def echo(request: BaseModel) -> BaseModel:
    """Answer with the request, a moment later."""
    await asyncio.sleep(0.01)
    return request


async def not_reached(scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError(scope["path"])


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ASGIApp]:
    """Return what builds the routes behind the errors, in front of a service with the given method `answer`."""

    def build(
        answer: Callable[[Any], Awaitable[Any]] = echo,
        max_body_bytes: int = 2_000,
        max_in_flight: int | None = 100,
        timeout: float | None = 5,
    ) -> ASGIApp:
        monkeypatch.setattr("bentoml.get_current_service", lambda: None)
        routes = {"/predict": (Number, lambda _, request: answer(request))}
        return AccessAndErrors(PredictionRoutes(not_reached, routes, max_body_bytes, max_in_flight, timeout), Access())

    return build


async def ask(
    app: ASGIApp, body: bytes, *headers: tuple[bytes, bytes], receive: Receive | None = None
) -> tuple[int, dict[bytes, bytes], Any]:
    """Return status, headers and content of the answer to one request."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent: list[Any] = []

    async def receive_body() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": list(headers or [JSON])}
    await app(scope, receive or receive_body, send)
    content = json.loads(b"".join(message.get("body", b"") for message in sent))
    return sent[0]["status"], dict(sent[0]["headers"]), content


def answer_to(app: ASGIApp, body: bytes, *headers: tuple[bytes, bytes]) -> tuple[int, Any]:
    status, _, content = asyncio.run(ask(app, body, *headers))
    return status, content


async def never() -> Any:
    return await asyncio.get_running_loop().create_future()


def test_a_valid_body_is_answered(routes: Callable[..., ASGIApp]) -> None:
    status, headers, content = asyncio.run(ask(routes(), b'{"number": 7}'))
    assert (status, content) == (200, {"number": 7})
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == b"12"


def test_an_invalid_body_is_rejected_without_repeating_it(routes: Callable[..., ASGIApp]) -> None:
    status, content = answer_to(routes(), b'{"number": "secret"}')
    assert status == 400
    assert [part["field"] for part in content["detail"]] == ["number"]
    assert "secret" not in json.dumps(content)


@pytest.mark.parametrize("kind", [b"text/plain", b"application/jsonp", b""])
def test_only_json_is_accepted(routes: Callable[..., ASGIApp], kind: bytes) -> None:
    status, content = answer_to(routes(), b'{"number": 7}', (b"content-type", kind))
    assert status == 415
    assert content["error"] == "the body must be application/json"


def test_a_byte_order_mark_is_ignored(routes: Callable[..., ASGIApp]) -> None:
    assert answer_to(routes(), b'\xef\xbb\xbf{"number": 7}') == (200, {"number": 7})


def pack(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        (b"gzip", pack(b'{"number": 7}'), 200),
        (b"GZIP", pack(b'{"number": 7}'), 200),
        (b"identity", b'{"number": 7}', 200),
        (b"gzip", pack(b'{"number": 7}'.ljust(2_000)), 200),
        (b"gzip", pack(b'{"number": 7}'.ljust(2_001)), 413),
        (b"gzip", pack(b" " * 100_000_000)[:2_000], 413),
        (b"gzip", b'{"number": 7}', 400),
        (b"gzip", pack(b'{"number": 7}')[:-4], 400),
        (b"gzip", pack(b'{"number": 7}') + b"more", 400),
        (b"gzip", pack(b'{"num') + pack(b'ber": 7}'), 400),
        (b"br", b'{"number": 7}', 415),
        (b"deflate", zlib.compress(b'{"number": 7}'), 415),
        (b"gzip, gzip", pack(pack(b'{"number": 7}')), 415),
    ],
)
def test_gzip_is_unpacked_within_the_limit(
    routes: Callable[..., ASGIApp], coding: bytes, body: bytes, status: int
) -> None:
    got, headers, content = asyncio.run(ask(routes(), body, JSON, (b"content-encoding", coding)))
    assert got == status
    assert status != 200 or content == {"number": 7}
    assert status != 415 or headers[b"accept-encoding"] == b"gzip"


def test_above_the_limit_requests_are_rejected_at_once(routes: Callable[..., ASGIApp]) -> None:
    app = routes(max_in_flight=4)

    async def together(number: int) -> list[int]:
        return [status for status, *_ in await asyncio.gather(*(ask(app, b'{"number": 1}') for _ in range(number)))]

    assert asyncio.run(together(10)) == [200] * 4 + [429] * 6
    assert asyncio.run(together(4)) == [200] * 4


def test_a_slow_upload_does_not_count_towards_the_limit(routes: Callable[..., ASGIApp]) -> None:
    async def beside_a_slow_one() -> int:
        app = routes(max_in_flight=1)
        slow = asyncio.ensure_future(ask(app, b"", receive=never))
        await asyncio.sleep(0.01)
        status, *_ = await ask(app, b'{"number": 7}')
        slow.cancel()
        return status

    assert asyncio.run(beside_a_slow_one()) == 200


def test_an_answer_that_takes_too_long_is_a_503(routes: Callable[..., ASGIApp]) -> None:
    async def stuck(_: BaseModel) -> BaseModel:
        return await never()  # type: ignore[no-any-return]

    status, headers, content = asyncio.run(ask(routes(stuck, timeout=0.05), b'{"number": 7}'))
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert content["error"] == "no answer in time; try again"


def test_a_body_that_never_ends_is_a_408(routes: Callable[..., ASGIApp]) -> None:
    status, *_ = asyncio.run(ask(routes(timeout=0.05), b"", receive=never))
    assert status == 408


def test_an_unexpected_error_is_a_500_in_the_one_shape(routes: Callable[..., ASGIApp]) -> None:
    async def broken(request: BaseModel) -> BaseModel:
        raise LookupError(request)

    assert answer_to(routes(broken), b'{"number": 7}') == (500, {"error": "Internal Server Error", "detail": []})
