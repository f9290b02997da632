"""BentoML's metrics of requests, beside those of the process."""

from functools import cache, partial
from time import monotonic
from types import SimpleNamespace
from typing import Any

import psutil
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from prometheus_client import Counter, Gauge, Histogram, Summary
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.metrics_files import open_files

METRICS = (Counter, Gauge, Histogram, Summary)
WRITE_EVERY = 1.0  # seconds, for metrics of the process; files that were removed are then noticed as well

# Not registered: a registry takes each metric only once, and in tests several apps share a process.
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


class ProcessMetrics:
    """CPU time and memory of the workers; prometheus_client itself has them for a single process only."""

    def __init__(self) -> None:
        self._cpu = _UNREGISTERED.Counter("process_cpu_seconds", "CPU time of the workers")
        self._memory = _UNREGISTERED.Gauge(
            "process_resident_memory_bytes", "Resident memory of the workers", multiprocess_mode="livesum"
        )
        self._process = psutil.Process()
        self._counted = 0.0  # seconds

    def write(self) -> None:
        """Write what has been used so far."""
        times = self._process.cpu_times()
        used = times.user + times.system
        self._cpu.inc(used - self._counted)
        self._counted = used
        self._memory.set(self._process.memory_info().rss)
