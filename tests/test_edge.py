"""The edge by itself, in front of an app that says what reached it."""

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from serving.dialogs import Dialogs
from serving.edge import Edge, Receive, Scope, Send

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


async def ask(edge: Edge, body: bytes, content_type: bytes = b"application/json") -> tuple[int, Any]:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/one", "headers": [(b"content-type", content_type)]}
    await edge(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


def edge_before(inner: Inner, largest: int = 64) -> Edge:
    return Edge(
        inner,
        {"/one": Body, "/many": Bodies},
        joined={"/one": "/many"},
        largest=largest,
        largest_body=1000,
        dialogs=NOWHERE,
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
        slow = asyncio.create_task(
            edge({"type": "http", "method": "POST", "path": "/one", "headers": headers}, receive, send)
        )
        await asyncio.sleep(0.01)
        await ask(edge, b'{"number": 7}')
        slow.cancel()

    asyncio.run(both())
    assert [path for path, _ in inner.asked] == ["/one"]


def together(inner: Inner, bodies: list[bytes], largest: int = 64) -> list[tuple[int, Any]]:
    async def all_at_once() -> list[tuple[int, Any]]:
        edge = edge_before(inner, largest)
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
