"""Replaced under load: three containers on one PostgreSQL, behind an HAProxy that follows `/readyz`.

32 clients with connections that are kept alive send chats and the messages of dialogs, and check every answer, while
containers are replaced one after the other, as an orchestrator does, one is killed, and one is cut off from the store.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.conftest import Reply, is_ready, send, wait_until
from tests.engine import docker
from tests.faults.client import Connection
from tests.faults.soak import Traffic
from tests.replicas import Replicas, proxy, replicas

pytestmark = [pytest.mark.docker, pytest.mark.proxy, pytest.mark.faults]
CLIENTS = 32
REQUESTS = 20_000  # at least, while containers are replaced in order
RETRIES = 50


@pytest.fixture
def running(image: str) -> Iterator[Replicas]:  # noqa: ARG001  # built before it runs
    with replicas(3) as started:
        yield started


@pytest.fixture
def url(running: Replicas, tmp_path: Path) -> Iterator[str]:
    with proxy(running, tmp_path) as address:
        yield address


class Load(Traffic):
    """Chats and messages of dialogs, each sent until it is answered; notes what failed, and which were answered.

    The answer to a message is right only if those before it are stored, once and in order.
    """

    def __init__(self) -> None:
        super().__init__({"chat": 50, "message": 50})
        self.count = 0
        self.failed: list[tuple[float, Reply]] = []  # when it was sent, and what came back
        self.stored: set[str] = set()  # identifiers of answered messages

    async def post(self, connection: Connection, path: str, body: bytes) -> Reply:
        """Send a request until it is answered with 200."""
        for _ in range(RETRIES):
            begin = time.monotonic()
            reply = await connection.post(path, body)
            self.count += 1
            if reply.status == HTTPStatus.OK:
                if "dialog_id" in (sent := json.loads(body)):
                    self.stored.add(sent["id"])
                return reply
            self.failed.append((begin, reply))
            await asyncio.sleep(0.1)
        raise AssertionError(f"not answered after {RETRIES} tries: {reply}")

    async def send(self, count: int) -> None:
        """Wait until the clients have sent that many more requests."""
        end = self.count + count
        while self.count < end:
            await asyncio.sleep(0.1)

    def take_failed(self, what: str) -> list[tuple[float, Reply]]:
        """Print and return what failed since it was last called."""
        taken, self.failed = self.failed, []
        how = Counter((reply.status, reply.headers.get("x-slot")) for _, reply in taken)
        print(f"{what}: {self.count} requests so far, {len(taken)} failed: {dict(how)}")
        return taken


@asynccontextmanager
async def under_load(url: str) -> AsyncIterator[Load]:
    """Let the clients ask while the body runs; an error of a client ends it."""
    load = Load()
    async with asyncio.timeout(300), asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(load.client(url, number))
        try:
            yield load
        finally:
            load.deadline = 0


async def test_containers_are_replaced_without_a_failed_request(running: Replicas, url: str) -> None:
    async with under_load(url) as load:
        # in order: the successor is ready before its predecessor is told to end
        for slot in range(3):
            await load.send(2_000)
            await asyncio.to_thread(running.start, running.free())
            await load.send(500)
            await asyncio.to_thread(running.stop, slot)
        await load.send(REQUESTS - load.count)
        assert load.take_failed("replaced in order") == []

        # killed: what was in flight there fails, and nothing else
        victim = min(running.names)
        await asyncio.to_thread(running.kill, victim)
        killed = time.monotonic()
        await load.send(3_000)
        failed = load.take_failed("killed")
        sent = [moment for moment, _ in failed]
        assert not sent or max(sent) - min(sent) < 1, "the proxy takes it out at its next check, 0.2 s later"
        assert {reply.status for _, reply in failed} <= {0, HTTPStatus.BAD_GATEWAY}
        assert {reply.headers.get("x-slot") for _, reply in failed} <= {None, str(victim)}
        assert all(moment < killed for moment in sent)
        await asyncio.to_thread(running.start, victim)

        # cut off from the store: it says so, is left alone, and comes back by itself. It may hold the locks of its
        # last dialogs for 2 s, in which the others answer 503 to messages of these, too.
        cut = max(running.names)
        begin = time.monotonic()
        await asyncio.to_thread(docker, "network", "disconnect", running.network, running.names[cut])
        await asyncio.to_thread(wait_until, lambda: not is_ready(running.url(cut)), 5)
        print(f"cut off: /readyz turned after {time.monotonic() - begin:.1f} s")
        assert send(f"{running.url(cut)}/livez").status == HTTPStatus.OK
        await load.send(3_000)
        failed = load.take_failed("cut off")
        assert {reply.status for _, reply in failed} <= {HTTPStatus.SERVICE_UNAVAILABLE}
        assert all(sent < begin + 5 for sent, _ in failed), "then nobody asks it, and its locks are gone"
        await asyncio.to_thread(docker, "network", "connect", running.network, running.names[cut])
        await asyncio.to_thread(wait_until, lambda: is_ready(running.url(cut)), 20)
        await load.send(1_000)
        assert load.take_failed("back") == []
    assert load.wrong == 0
    assert load.stored <= set(running.query("SELECT id FROM messages"))
