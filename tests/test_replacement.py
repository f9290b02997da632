"""Replaced under load: three containers on one PostgreSQL, behind an HAProxy that follows `/readyz`.

32 clients with connections that are kept alive send chats and the messages of dialogs, and check every answer, while
containers are replaced one after the other, as an orchestrator does, one is killed, and one is cut off from the store.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.conftest import is_ready, send, wait_until
from tests.engine import docker
from tests.faults.client import Connection, Reply
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
    """Chats and messages of dialogs, each sent until it is answered; notes what failed, and what was answered."""

    def __init__(self) -> None:
        super().__init__({"chat": 50, "message": 50})
        self.count = 0
        self.failed: list[tuple[float, Reply]] = []  # when it was sent, and what came back
        self.dialogs: dict[str, list[str]] = {}  # identifiers of answered messages, in order

    async def post(self, connection: Connection, path: str, body: bytes) -> Reply:
        """Send a request until it is answered with 200."""
        for _ in range(RETRIES):
            begin = time.monotonic()
            reply = await connection.post(path, body)
            self.count += 1
            if reply.status == HTTPStatus.OK:
                sent = json.loads(body)
                if "dialog_id" in sent:
                    self.dialogs.setdefault(sent["dialog_id"], []).append(sent["id"])
                return reply
            self.failed.append((begin, reply))
            await asyncio.sleep(0.1)
        raise AssertionError(f"not answered after {RETRIES} tries: {reply}")

    async def reach(self, count: int) -> None:
        while self.count < count:
            await asyncio.sleep(0.1)

    def take_failed(self) -> list[tuple[float, Reply]]:
        taken, self.failed = self.failed, []
        return taken


@asynccontextmanager
async def under_load(url: str) -> AsyncIterator[Load]:
    """Let the clients ask while the body runs; an error of a client ends it."""
    load = Load()
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(load.client(url, number))
        try:
            yield load
        finally:
            load.deadline = 0


def run(work: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 300))


def stored(network: str) -> dict[str, list[str]]:
    """Return the identifiers of the stored messages of each dialog, in order."""
    query = "SELECT dialog_id, id FROM messages ORDER BY seq"
    rows = docker("exec", f"{network}-store", "psql", "-U", "dialogs", "-At", "-F", " ", "-c", query, "dialogs")
    dialogs: dict[str, list[str]] = {}
    for row in rows.splitlines():
        dialog, identifier = row.split()
        dialogs.setdefault(dialog, []).append(identifier)
    return dialogs


def check_stored(load: Load, network: str) -> None:
    """Every answered message is stored, once and in order; at most the last one of a dialog is stored unanswered."""
    rows = stored(network)
    for dialog, answered in load.dialogs.items():
        kept = rows.get(dialog, [])
        assert kept[: len(answered)] == answered
        assert len(kept) <= len(answered) + 1


def test_containers_are_replaced_without_a_failed_request(running: Replicas, url: str) -> None:
    async def work() -> None:
        async with under_load(url) as load:
            # in order: the successor is ready before its predecessor is told to end
            begin = time.monotonic()
            for slot in range(3):
                await load.reach(load.count + 2_000)
                await asyncio.to_thread(running.start, running.free())
                await load.reach(load.count + 500)
                await asyncio.to_thread(running.stop, slot)
            await load.reach(REQUESTS)
            rate = load.count / (time.monotonic() - begin)
            print(f"replaced in order: {load.count} requests, {rate:.0f} a second, {len(load.failed)} failed")
            assert load.take_failed() == []

            # killed: what was in flight there fails, and nothing else
            victim = min(running.names)
            await asyncio.to_thread(running.kill, victim)
            killed = time.monotonic()
            await load.reach(load.count + 3_000)
            failed = load.take_failed()
            print(f"killed: {len(failed)} failed, {Counter(reply.status for _, reply in failed)}")
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
            await load.reach(load.count + 3_000)
            failed = load.take_failed()
            print(f"cut off: {len(failed)} failed, {Counter(reply.headers.get('x-slot') for _, reply in failed)}")
            assert {reply.status for _, reply in failed} <= {HTTPStatus.SERVICE_UNAVAILABLE}
            assert all(sent < begin + 5 for sent, _ in failed), "then nobody asks it, and its locks are gone"
            await asyncio.to_thread(docker, "network", "connect", running.network, running.names[cut])
            await asyncio.to_thread(wait_until, lambda: is_ready(running.url(cut)), 20)
            await load.reach(load.count + 1_000)
            assert load.take_failed() == []
        assert load.wrong == 0
        check_stored(load, running.network)

    run(work)
