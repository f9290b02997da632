"""BentoML's metrics of requests, beside those of the process."""

from functools import cache, partial
from time import monotonic
from types import SimpleNamespace
from typing import Any

from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from prometheus_client import Counter, Gauge, Histogram, Summary
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.metrics_files import open_files
from serving.process import ProcessMetrics

METRICS = (Counter, Gauge, Histogram, Summary)
WRITE_EVERY = 1.0  # seconds, for metrics of the process; files that were removed are then noticed as well

# without a registry, which takes a metric once: `/metrics` reads the files, and apps of several tests share a process
_UNREGISTERED = SimpleNamespace(**{kind.__name__: partial(kind, registry=None) for kind in METRICS})


class RequestMetrics(RunnerTrafficMetricsMiddleware):
    """BentoML's middleware, with each set of labels looked up once; `KnownPaths` keeps their number finite."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        super().__init__(app, **options)
        self._files = open_files()
        self._process = ProcessMetrics()
        self._written = 0.0  # when
        self._setup(metrics_client=_UNREGISTERED)  # type: ignore[arg-type]
        for metric in vars(self).values():
            if isinstance(metric, METRICS):
                metric.labels = cache(metric.labels)  # type: ignore[assignment]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it once it is answered."""
        if scope.get("path") == "/metrics" or monotonic() - self._written > WRITE_EVERY:
            self._written = monotonic()
            if self._files:
                self._files.write_missing()
            self._process.write()
        await super().__call__(scope, receive, send)
