"""`python -m benchmarks.metrics`: what the metrics of the model add to the CPU time of a request, in one process.

Clients send chats to the service's own app, without a network, with these metrics and without them in turns. As in a
worker, the metrics are kept in memory-mapped files; they are written once for all `CHATS`.
"""

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import process_time
from unittest.mock import patch

import bentoml
import uvloop
from starlette.types import ASGIApp, Scope

from benchmarks.chats import draw_chats

CLIENTS = (1, 32)
CHATS = 64
ROUNDS = 201


async def ask(app: ASGIApp, bodies: Iterator[bytes]) -> None:
    """Send requests one after the other."""
    headers = [(b"host", b"localhost:8000"), (b"content-type", b"application/json")]
    for body in bodies:
        received: list[Scope] = [{"type": "http.request", "body": body}]
        sent: list[Scope] = []

        async def receive() -> Scope:
            return received.pop()  # noqa: B023  # used before the next request

        async def send(message: Scope) -> None:
            sent.append(message)  # noqa: B023

        scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "headers": headers}
        await app({**scope, "query_string": b"", "root_path": "", "server": ("localhost", 8000)}, receive, send)
        if sent[0]["status"] != 200:
            raise RuntimeError(f"refused: {sent}")


async def seconds(app: ASGIApp, bodies: list[bytes], clients: int) -> float:
    """Return the CPU time of a request, in seconds, with its part in writing what was collected."""
    metrics = bentoml.get_current_service().scorer._metrics
    shared = iter(bodies)
    begin = process_time()
    await asyncio.gather(*(ask(app, shared) for _ in range(clients)))
    metrics.write()  # here and not by its timer, which would go off in either way
    return (process_time() - begin) / len(bodies)


@contextmanager
def without_metrics() -> Iterator[None]:
    """Take the metrics of the model out of the way of a request; its words are counted all the same."""
    from serving.scoring.metrics import ModelMetrics  # after the variables are set

    with (
        patch.object(ModelMetrics, "count", lambda *_: None),
        patch.object(ModelMetrics, "enter", lambda *_: None),
    ):
        yield


async def measure() -> None:
    """Print medians of the CPU time without the metrics, and of what they add, with quartiles."""
    from service import TuringTestService

    app: ASGIApp = TuringTestService.to_asgi()  # type: ignore[attr-defined]
    bodies = [json.dumps(chat, ensure_ascii=False).encode() for chat in draw_chats(CHATS)]
    print("| clients | CPU time without, µs | the metrics add, µs (quartiles) | share |\n| --- | --- | --- | --- |")
    bento = bentoml.Service.to_asgi(TuringTestService)  # whose lifespan makes the service's instance
    async with bento.router.lifespan_context(bento):
        for clients in CLIENTS:
            await seconds(app, bodies, clients)
            added, without = [], []
            for number in range(ROUNDS):
                times = {}
                for way in (nullcontext, without_metrics) if number % 2 else (without_metrics, nullcontext):
                    with way():
                        times[way] = await seconds(app, bodies, clients)
                added.append(times[nullcontext] - times[without_metrics])
                without.append(times[without_metrics])
            low, middle, high = (cut * 1e6 for cut in quantiles(added, n=4))
            base = median(without) * 1e6
            print(f"| {clients} | {base:.0f} | {middle:.0f} ({low:.0f} to {high:.0f}) | {middle / base:.1%} |")


if __name__ == "__main__":
    logging.disable()
    with TemporaryDirectory() as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        os.environ["HISTORY_FOLDER"] = folder
        uvloop.run(measure())
