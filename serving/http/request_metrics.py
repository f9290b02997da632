"""BentoML's metrics of requests, at lower cost: each set of labels is looked up once.

Names and labels are those of BentoML's `RunnerTrafficMetricsMiddleware`, so that dashboards made for BentoML show them.
`KnownPaths` keeps the number of paths finite.
"""

from functools import cache
from time import perf_counter, time
from typing import Any

from bentoml import server_context
from bentoml._internal.configuration.containers import BentoMLContainer
from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics_files import open_files
from serving.process import ProcessMetrics

WRITE_EVERY = 1.0  # seconds, for metrics of the process; files that were removed are then noticed as well


class RequestMetrics:
    """ASGI middleware that counts requests and how long they take."""

    def __init__(self, app: ASGIApp, namespace: str) -> None:
        self._app = app
        self._namespace = namespace
        self._files = open_files()
        self._process = ProcessMetrics()
        self._written = 0.0  # when
        for path in server_context.service_routes:
            _of_path(namespace, path)  # opens the last file
            for status in (200, 500):
                _of_answer(namespace, path, status)  # 0 from the start, so that the first one counts in a rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it once it is answered."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        now = time()
        is_metrics = scope["path"] == "/metrics"
        if is_metrics or now - self._written > WRITE_EVERY:
            self._written = now
            if self._files:
                self._files.restore()
            self._process.write()
        if is_metrics:
            return await self._app(scope, receive, send)
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        in_progress, last = _of_path(self._namespace, scope["path"])
        last.set(now)
        in_progress.inc()
        begin = perf_counter()
        try:
            await self._app(scope, receive, note_status)
        finally:
            in_progress.dec()
            if status:
                total, duration = _of_answer(self._namespace, scope["path"], status)
                total.inc()
                duration.observe(perf_counter() - begin)


@cache
def _metrics(namespace: str) -> tuple[Gauge, Gauge, Counter, Histogram]:
    """Return the metrics: requests in progress, time of the last one, number and duration of those answered."""
    of_service = ["service_name", "service_version", "runner_name"]
    of_answer = ["endpoint", "http_response_code", *of_service]
    buckets = BentoMLContainer.duration_buckets.get()
    return (  # the registry takes each only once
        Gauge(
            "request_in_progress",
            "In progress",
            ["endpoint", *of_service],
            multiprocess_mode="livesum",
            namespace=namespace,
        ),
        Gauge("last_request_timestamp_seconds", "Time of the last request", of_service, namespace=namespace),
        Counter("request_total", "Requests", of_answer, namespace=namespace),
        Histogram("request_duration_seconds", "Duration of requests", of_answer, buckets=buckets, namespace=namespace),
    )


@cache
def _of_path(namespace: str, path: str) -> tuple[Gauge, Gauge]:
    in_progress, last, *_ = _metrics(namespace)
    return in_progress.labels(path, *_of_service()), last.labels(*_of_service())


@cache
def _of_answer(namespace: str, path: str, status: int) -> tuple[Counter, Histogram]:
    *_, total, duration = _metrics(namespace)
    return total.labels(path, status, *_of_service()), duration.labels(path, status, *_of_service())


def _of_service() -> tuple[Any, ...]:
    return server_context.bento_name, server_context.bento_version, server_context.service_name
