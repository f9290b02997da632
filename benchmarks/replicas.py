"""Throughput by replicas: containers with one worker each, on one PostgreSQL, behind an HAProxy.

    python -m benchmarks.replicas

Needs Docker, HAProxy, and the image of `make image`. Prints, for chats and for messages of dialogs, the requests a
second that 32 clients get from 1 and from 2 replicas on this machine, which also runs the load, the proxy and
PostgreSQL, and the CPU time that a request takes of the service and of PostgreSQL. From the CPU time follows what more
cores would give, where nothing else is the limit.
"""

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from uuid import uuid4

from tests.conftest import Reply, sample_bodies
from tests.engine import docker
from tests.faults.client import Connection, closed_loop
from tests.replicas import Replicas, proxy, replicas

CLIENTS = 32
SECONDS = 10.0
NUMBERS: Iterator[int] = count()
# of cgroups of version 1, or 2
NANOSECONDS = (
    "cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || "
    "awk '/^usage_usec/ {print $2 \"000\"}' /sys/fs/cgroup/cpu.stat"
)
CHATS = [json.dumps(body).encode() for body in sample_bodies()]


async def send_chat(connection: Connection) -> Reply:
    """Send a chat of the sample."""
    return await connection.post("/predict", CHATS[next(NUMBERS) % len(CHATS)])


async def send_message(connection: Connection) -> Reply:
    """Send a message, the next of one of 500 dialogs, which have some 10 messages each."""
    number = next(NUMBERS)
    message = {
        "text": f"how are you today, number {number % 97}?",
        "dialog_id": f"dialog-{number // 5_000}-{number % 500}",
        "id": str(uuid4()),
        "participant_index": number // 500 % 2,
    }
    return await connection.post("/predict", json.dumps(message).encode())


def cpu_seconds(name: str) -> float:
    """Return the CPU time that a container has taken so far."""
    return int(docker("exec", name, "sh", "-c", NANOSECONDS)) / 1e9


def measure(running: Replicas, url: str, send: Callable[[Connection], Awaitable[Reply]]) -> tuple[float, float, float]:
    """Return requests a second, and the CPU time in ms that one takes of the service and of PostgreSQL."""
    store = f"{running.network}-store"
    asyncio.run(closed_loop(url, CLIENTS, 2, send))
    before = sum(map(cpu_seconds, running.names.values())), cpu_seconds(store)
    replies = asyncio.run(closed_loop(url, CLIENTS, SECONDS, send))
    after = sum(map(cpu_seconds, running.names.values())), cpu_seconds(store)
    wrong = [reply.status for reply in replies if reply.status != 200]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(replies)} requests failed: {set(wrong)}")
    service, database = ((end - begin) / len(replies) * 1000 for begin, end in zip(before, after, strict=True))
    return len(replies) / SECONDS, service, database


def main() -> None:
    """Measure, and print a table in Markdown."""
    print("| replicas | requests | requests/s | CPU of the service, ms | CPU of PostgreSQL, ms |")
    print("| --- | --- | --- | --- | --- |")
    for number in (1, 2):
        with replicas(number) as running, tempfile.TemporaryDirectory() as folder, proxy(running, Path(folder)) as url:
            for name, send in (("chats", send_chat), ("messages", send_message)):
                rate, service, database = measure(running, url, send)
                print(f"| {number} | {name} | {rate:.0f} | {service:.2f} | {database:.2f} |", flush=True)


if __name__ == "__main__":
    main()
