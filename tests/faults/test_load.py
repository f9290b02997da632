"""Overload, and clients that are slow, idle or gone: other clients are served."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus

import numpy as np
import pytest

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import CURL_CHAT, running, send, wait_until
from tests.faults.client import Connection, Reply, closed_loop, long_chat
from tests.faults.conftest import Process, Start, connect

pytestmark = pytest.mark.faults
BODY = json.dumps(CURL_CHAT).encode()


def is_right(classifier: Classifier, reply: Reply) -> bool:
    (expected,) = classifier.predict([Chat.model_validate(CURL_CHAT)])
    numbers = [side["is_bot_probability"] for side in reply.json["participants"]]
    return numbers == pytest.approx([side.is_bot_probability for side in expected.participants], abs=1e-9)


async def ask(connection: Connection) -> Reply:
    return await connection.post("/predict", BODY)


def test_with_more_clients_than_its_limit_the_service_answers_or_rejects(start: Start, classifier: Classifier) -> None:
    """Four times as many clients as the limit, for some seconds; afterwards it serves as before."""
    with start(MAX_CONCURRENCY="16") as served:
        asyncio.run(closed_loop(served.url, 16, 3, ask))
        memory = served.memory()
        replies = asyncio.run(closed_loop(served.url, 64, 4, ask))
        for part in np.array_split(np.array([reply.status for reply in replies]), 5):
            assert set(part.tolist()) == {200, 429}, "from the first fifth of the replies to the last one"
        assert all(is_right(classifier, reply) for reply in replies if reply.status == HTTPStatus.OK)
        assert served.memory() < 1.1 * memory
        wait_until(lambda: send(f"{served.url}/predict", CURL_CHAT).status == HTTPStatus.OK)


def test_others_are_answered_while_a_long_chat_is_scored_or_explained(start: Start) -> None:
    """With one worker: the long chat takes half a second or more, in which other requests are answered."""
    with start(WORKERS="1") as served, ThreadPoolExecutor(1) as other:
        for path, words in (("/explain", 25_000), ("/predict", 60_000)):
            long = other.submit(send, f"{served.url}{path}", raw=long_chat(words))
            answered = 0
            while not long.done():
                assert send(f"{served.url}/predict", CURL_CHAT).status == 200
                answered += 1
            assert long.result().status in (200, 503), "503 where the machine is too busy for it"
            assert answered > 5


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(tmp_path_factory.mktemp("limited"), MAX_CONCURRENCY="2") as server:
        yield Process(server)


@pytest.mark.parametrize(
    "sent", [b"", HEAD[:30], HEAD, HEAD + b'{"chat_id'], ids=["nothing", "head", "no body", "body"]
)
def test_idle_clients_do_not_count_towards_the_limit(limited: Process, sent: bytes) -> None:
    """500 connections that stop sending, many more than the limit, and a client that is served."""
    with ExitStack() as connections:
        waiting = [connections.enter_context(connect(limited)) for _ in range(500)]
        for client in waiting:
            client.sendall(sent)
        for _ in range(20):
            assert send(f"{limited.url}/predict", CURL_CHAT).status == 200


def test_clients_that_hang_up_do_not_count_towards_the_limit(limited: Process) -> None:
    """They hang up in the middle of the body or while their request is being answered."""
    head = HEAD.replace(b"500", str(len(BODY)).encode())
    for sent in (HEAD + b'{"chat', head + BODY):
        for _ in range(50):
            with connect(limited) as client:
                client.sendall(sent)
    wait_until(lambda: send(f"{limited.url}/predict", CURL_CHAT).status == HTTPStatus.OK)
    assert "Traceback" not in limited.log()
