"""The edge by itself, in front of an app that says what reached it."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from serving.access import Access
from serving.dialogs import Dialogs
from serving.edge import LARGE_BODY, Edge
from serving.errors import App, Receive, Scope, Send
from serving.gate import Gate

NOWHERE = Dialogs("sqlite:////nowhere/dialogs.sqlite")  # no test here sends a message of a dialog


class Body(BaseModel):
    """What `/one` takes."""

    number: int


class Bodies(RootModel[list[Body]]):
    """What `/many` takes."""


class Inner:
    """Answers a body with its number, a list of bodies with a list; notes which paths were asked how often."""

    def __init__(self, status: int = 200) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = json.loads((await receive())["body"])
        self.asked.append((scope["path"], body))
        await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def ask(edge: App, body: bytes, content_type: bytes = b"application/json", path: str = "/one") -> tuple[int, Any]:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [(b"content-type", content_type)]}
    await edge(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


def edge_before(inner: App, largest: int = 64, most: int = 100) -> App:
    """Return the edge behind the gate, which turns what the edge refuses into answers."""
    return Gate(
        Edge(
            inner,
            {"/one": Body, "/many": Bodies},
            joined={"/one": "/many"},
            largest=largest,
            largest_body=20_000,
            most=most,
            dialogs=NOWHERE,
        ),
        Access(),
    )


def test_a_request_that_comes_alone_goes_on_unchanged() -> None:
    inner = Inner()
    assert asyncio.run(ask(edge_before(inner), b'{"number": 7}')) == (200, {"number": 7})
    assert inner.asked == [("/one", {"number": 7})]


def test_a_body_that_trickles_in_is_no_company() -> None:
    inner = Inner()

    async def both() -> None:
        edge = edge_before(inner)
        never = asyncio.get_running_loop().create_future()

        async def receive() -> Any:
            return await never

        async def send(_: Any) -> None:
            """Nothing is answered."""

        headers = [(b"content-type", b"application/json")]
        slow = asyncio.ensure_future(
            edge({"type": "http", "method": "POST", "path": "/one", "headers": headers}, receive, send)
        )
        await asyncio.sleep(0.01)
        await ask(edge, b'{"number": 7}')
        slow.cancel()

    asyncio.run(both())
    assert [path for path, _ in inner.asked] == ["/one"]


def together(inner: Inner, bodies: list[bytes], largest: int = 64, most: int = 100) -> list[tuple[int, Any]]:
    async def all_at_once() -> list[tuple[int, Any]]:
        edge = edge_before(inner, largest, most)
        return await asyncio.gather(*(ask(edge, body) for body in bodies))

    return asyncio.run(all_at_once())


def test_requests_that_come_together_are_joined_and_each_gets_its_own_answer() -> None:
    inner = Inner()
    bodies = [json.dumps({"number": number}).encode() for number in range(40)]
    assert together(inner, bodies) == [(200, {"number": number}) for number in range(40)]
    assert [path for path, _ in inner.asked] == ["/many"]


def test_joined_requests_are_at_most_so_many() -> None:
    inner = Inner()
    together(inner, [b'{"number": 1}'] * 10, largest=4)
    assert sorted(len(body) for _, body in inner.asked) == [2, 4, 4]


def test_a_wrong_request_harms_no_other() -> None:
    inner = Inner()
    bodies = [b'{"number": 1}', b'{"number": "secret"}', b"{", b'{"number": 2}']
    answers = together(inner, bodies)
    assert [status for status, _ in answers] == [200, 400, 400, 200]
    assert [answers[at][1]["number"] for at in (0, 3)] == [1, 2]
    assert "secret" not in json.dumps(answers)


@pytest.mark.parametrize("status", [500, 503])
def test_what_fails_behind_the_edge_fails_for_all_that_were_joined(status: int) -> None:
    answers = together(Inner(status), [b'{"number": 1}'] * 3)
    assert [got for got, _ in answers] == [status] * 3
    assert {body["error"] for _, body in answers} <= {"Internal Server Error", "Service Unavailable"}


def test_only_json_is_taken() -> None:
    status, answer = asyncio.run(ask(edge_before(Inner()), b'{"number": 7}', content_type=b"text/plain"))
    assert status == 415
    assert answer["error"] == "the body has to be application/json"


def test_a_large_body_is_not_joined() -> None:
    inner = Inner()
    large = b'{"number": 3' + b" " * LARGE_BODY + b"}"
    bodies = [b'{"number": 1}', large, b'{"number": 2}']
    assert together(inner, bodies) == [(200, {"number": 1}), (200, {"number": 3}), (200, {"number": 2})]
    assert sorted(inner.asked, key=str) == [("/many", [{"number": 1}, {"number": 2}]), ("/one", {"number": 3})]


def test_above_the_limit_requests_are_refused_at_once() -> None:
    inner = Inner()
    answers = together(inner, [b'{"number": 1}'] * 10, most=4)
    assert [status for status, _ in answers] == [200] * 4 + [429] * 6
    assert together(inner, [b'{"number": 1}'] * 4, most=4) == [(200, {"number": 1})] * 4


class Stuck(Inner):
    """Never answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)
        await super().__call__(scope, receive, send)


def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.edge.ANSWER_SECONDS", 0.05)
    status, answer = asyncio.run(ask(edge_before(Stuck()), b'{"number": 7}'))
    assert status == 503
    assert answer["error"] == "there was no answer in time, try again"


def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.edge.ANSWER_SECONDS", 0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    async def trickle() -> None:
        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/one", "headers": headers}
        await edge_before(Inner())(scope, receive, send)

    asyncio.run(trickle())
    assert sent[0]["status"] == 408


def test_what_is_no_part_of_a_chat_harms_none_that_it_is_joined_with() -> None:
    inner = Inner()
    deep = b'{"number": 1, "more": ' + b"[" * 150 + b"]" * 150 + b"}"
    assert together(inner, [deep, b'{"number": 2}']) == [(200, {"number": 1}), (200, {"number": 2})]
    assert inner.asked == [("/many", [{"number": 1}, {"number": 2}])]


def test_a_large_list_is_taken_apart() -> None:
    """What is joined does not wait for it."""
    inner = Inner()
    numbers = [{"number": number} for number in range(3)]
    body = json.dumps(numbers).encode().ljust(LARGE_BODY + 1)
    assert asyncio.run(ask(edge_before(inner), body, path="/many")) == (200, numbers)
    assert inner.asked == [("/one", one) for one in numbers]


class Broken:
    """Fails in a way that nobody has thought of."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError(scope["path"], receive, send)


def test_a_fault_of_the_service_has_the_one_shape() -> None:
    assert asyncio.run(ask(edge_before(Broken()), b'{"number": 7}')) == (
        500,
        {"error": "Internal Server Error", "detail": []},
    )
