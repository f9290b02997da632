"""What relies on private parts of BentoML's app, except for its OpenAPI document (`serving/http/swagger.py`).

`tests/test_bentoml_internals.py` checks each assumption about BentoML, so that an upgrade fails there with a clear
message. Written for BentoML 1.4.40.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_type_hints

from _bentoml_impl.server.app import ContextMiddleware
from bentoml._internal.log import _component_name
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from bentoml._internal.server.http.traffic import MaxConcurrencyMiddleware, TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from serving.http.middleware import Cors
from serving.scoring.adaptive_batching import traces_requests


def name_worker_in_log() -> None:
    """Let log lines name the service and the worker, which BentoML does not know yet when it writes its first line."""
    _component_name.cache_clear()


def api_methods(service: Any) -> dict[str, tuple[type[BaseModel], Callable[[Any, Any], Awaitable[BaseModel]]]]:
    """Return the API methods of a service by route: the type of the one parameter beside self, and the function.

    As an attribute of an instance, a method is wrapped by BentoML, which inspects its signature for each call.
    """
    methods = {}
    for api in service.apis.values():
        body_type, _ = get_type_hints(api.func).values()
        methods[api.route] = body_type, api.func
    return methods


@dataclass
class BentoMLMiddleware:
    """What BentoML puts in front of a service's routes, as configured by the service and by `BENTOML_CONFIG`.

    `outer` is what every request passes (metrics, tracing and access log if configured, CORS), `inner` what only
    BentoML's own routes need. `timeout`, in seconds, and `max_in_flight`, for one worker, are limits that BentoML would
    enforce by middleware of its own, with errors in other shapes; `None` if not configured.
    """

    outer: list[Middleware] = field(default_factory=list)
    inner: list[Middleware] = field(default_factory=list)
    timeout: float | None = None
    max_in_flight: int | None = None


def middleware_of(app: Starlette) -> BentoMLMiddleware:
    """Take apart the middleware of an app that BentoML built."""
    parts = BentoMLMiddleware()
    traces = traces_requests()
    for middleware in app.user_middleware:
        kind: Any = middleware.cls
        options: Mapping[str, Any] = middleware.kwargs
        if kind is TimeoutMiddleware:
            parts.timeout = options["timeout"]
        elif kind is MaxConcurrencyMiddleware:
            parts.max_in_flight = options["max_concurrency"]
        elif kind is RunnerTrafficMetricsMiddleware:
            parts.outer.append(Middleware(RequestMetrics, **options))
        elif kind is CORSMiddleware:
            parts.outer.append(Middleware(Cors, **options))
        elif kind is ContextMiddleware:
            parts.inner.append(middleware)
        elif traces or kind is not OpenTelemetryMiddleware:
            parts.outer.append(middleware)
    return parts


class RequestMetrics(RunnerTrafficMetricsMiddleware):
    """BentoML's metrics of every request, at lower cost: each set of labels is looked up once.

    Any number of apps in one process share the metrics, which the registry of Prometheus takes only once.
    """

    def _setup(self, *_: Any, **__: Any) -> None:
        vars(self).update(_request_metrics(self.namespace))
        self._is_setup = True


class _CachedLabels:
    """A metric whose `labels` remembers what it returned; `KnownPaths` keeps the number of paths finite."""

    def __init__(self, metric: Any) -> None:
        self.labels = cache(metric.labels)


@cache
def _request_metrics(namespace: str) -> dict[str, _CachedLabels]:
    """Return the metrics that BentoML's middleware creates, by the names of its attributes."""
    original = RunnerTrafficMetricsMiddleware(_no_app, namespace=namespace)
    original._setup()
    return {name: _CachedLabels(value) for name, value in vars(original).items() if hasattr(value, "labels")}


async def _no_app(*_: object) -> None:
    """Stand in for the app of a middleware that is only set up."""
