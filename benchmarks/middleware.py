"""`python -m benchmarks.middleware`: what each of BentoML's layers adds to a request, in one process."""

import logging
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

import uvloop
from _bentoml_impl.server.app import ContextMiddleware
from bentoml._internal.context import ServiceContext
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from bentoml._internal.server.http.traffic import MaxConcurrencyMiddleware, TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.access import Access
from serving.http.middleware import AccessAndErrors, KnownPaths
from serving.http.request_metrics import RequestMetrics

REQUESTS = 3_000
ROUNDS = 15


async def answer(_: Scope, __: Receive, send: Send) -> None:
    """Answer with nothing."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


async def seconds(app: ASGIApp) -> float:
    """Return the CPU time of one request, in seconds."""

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(_: object) -> None:
        """Send nothing."""

    headers = [(b"host", b"localhost:8000"), (b"content-type", b"application/json")]
    begin = process_time()
    for _ in range(REQUESTS):
        scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "headers": headers}
        await app({**scope, "query_string": b"", "root_path": "", "server": ("localhost", 8000)}, receive, send)
    return (process_time() - begin) / REQUESTS


async def measure() -> None:
    """Measure all layers in turns, and print medians of what each adds."""
    layers: dict[str, Callable[[ASGIApp], ASGIApp]] = {
        "nothing": lambda app: app,
        "request metrics, BentoML's": lambda app: RunnerTrafficMetricsMiddleware(app, namespace="stock"),
        "request metrics, labels looked up once": lambda app: RequestMetrics(app, namespace="bentoml_service"),
        "OpenTelemetry, URLs excluded": lambda app: OpenTelemetryMiddleware(app, excluded_urls=".*"),
        "OpenTelemetry, no exporter": OpenTelemetryMiddleware,
        "TimeoutMiddleware": lambda app: TimeoutMiddleware(app, timeout=6),
        "MaxConcurrencyMiddleware": lambda app: MaxConcurrencyMiddleware(app, max_concurrency=512),
        "ContextMiddleware": lambda app: ContextMiddleware(app, context=ServiceContext()),
        "KnownPaths": lambda app: KnownPaths(app, frozenset({"/predict"})),
        "AccessAndErrors": lambda app: AccessAndErrors(app, Access()),
    }
    apps = {name: layer(answer) for name, layer in layers.items()}
    times: dict[str, list[float]] = {name: [] for name in apps}
    for _ in range(ROUNDS):
        for name, app in apps.items():
            times[name].append(await seconds(app))
    print("| layer | µs for each request |\n| --- | --- |")
    for name in list(apps)[1:]:
        added = median(with_it - without for with_it, without in zip(times[name], times["nothing"], strict=True))
        print(f"| {name} | {added * 1e6:.0f} |")


if __name__ == "__main__":
    logging.disable()
    uvloop.run(measure())
