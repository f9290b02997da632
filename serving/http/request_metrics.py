"""BentoML's metrics of requests, at lower cost: each set of labels is looked up once."""

from functools import cache
from time import monotonic
from typing import Any

from bentoml import server_context
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.metrics_files import open_files
from serving.process import ProcessMetrics

WRITE_EVERY = 1.0  # seconds, for metrics of the process; files that were removed are then noticed as well
LOOKED_UP_ONCE = ("request_in_progress", "request_total", "request_duration", "last_request_timestamp")


class RequestMetrics(RunnerTrafficMetricsMiddleware):
    """BentoML's middleware, beside metrics of the process; `KnownPaths` keeps the number of labels finite."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        super().__init__(app, **options)
        self._files = open_files()
        self._process = ProcessMetrics()
        self._written = 0.0  # when
        vars(self).update(_metrics(self.namespace))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it once it is answered."""
        if scope.get("path") == "/metrics" or monotonic() - self._written > WRITE_EVERY:
            self._written = monotonic()
            if self._files:
                self._files.restore()
            self._process.write()
        await super().__call__(scope, receive, send)


@cache  # the registry takes a metric once
def _metrics(namespace: str) -> dict[str, Any]:
    """Return the attributes that BentoML's middleware sets when it is first called."""
    made = RunnerTrafficMetricsMiddleware(None, namespace)  # type: ignore[arg-type]
    made._setup()
    for name in LOOKED_UP_ONCE:
        metric = getattr(made, f"metrics_{name}")
        metric.labels = cache(metric.labels)
    of_service = {
        "service_name": server_context.bento_name,
        "service_version": server_context.bento_version,
        "runner_name": server_context.service_name,
    }
    made.metrics_last_request_timestamp.labels(**of_service)  # opens the last files, as do the next ones
    for path in server_context.service_routes:
        made.metrics_request_in_progress.labels(endpoint=path, **of_service)
        for status in (200, 500):
            made.metrics_request_duration.labels(endpoint=path, http_response_code=status, **of_service)
    return {name: value for name, value in vars(made).items() if name.startswith("metrics_")} | {"_is_setup": True}
