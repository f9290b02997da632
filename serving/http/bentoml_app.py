"""What relies on private parts of BentoML's app.

`tests/test_private_parts.py` checks each assumption about BentoML, so that an upgrade fails there with a clear
message. Written for BentoML 1.4.40.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_type_hints

from bentoml._internal.log import _component_name
from opentelemetry.instrumentation.propagators import TraceResponsePropagator, set_global_response_propagator
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware

from serving.http.middleware import Cors
from serving.http.request_metrics import RequestMetrics
from serving.scoring.adaptive_batching import traces_requests


def name_worker_in_log() -> None:
    """Let log lines name the service and the worker, which BentoML does not know yet when it writes its first line."""
    _component_name.cache_clear()


def api_methods(service: Any) -> dict[str, tuple[type[BaseModel], Callable[[Any, Any], Awaitable[BaseModel]]]]:
    """Return the API methods of a service by route: the type of the one parameter beside self, and the function.

    It is the function that the class defines. In its place, an instance has BentoML's `APIMethod`, which inspects the
    signature for each call.
    """
    methods = {}
    for api in service.apis.values():
        body_type, _ = get_type_hints(api.func).values()
        methods[api.route] = body_type, api.func
    return methods


def read_middleware(app: Starlette) -> tuple[list[Middleware], dict[str, Any]]:
    """Return what the service and `BENTOML_CONFIG` configure of the middleware of an app that BentoML has built.

    The first are metrics, tracing, access log and CORS, from the outside to the inside. The second are limits that
    BentoML would enforce with errors in other shapes, as `PredictionRoutes` takes them; those for one worker.
    """
    in_front: list[Middleware] = []
    limits: dict[str, Any] = {}
    for middleware in app.user_middleware:
        kind: Any = middleware.cls
        options: Mapping[str, Any] = middleware.kwargs
        match kind.__name__:
            case "TimeoutMiddleware":
                limits["timeout"] = options["timeout"]
            case "MaxConcurrencyMiddleware":
                limits["max_concurrency"] = options["max_concurrency"]
            case "RunnerTrafficMetricsMiddleware":
                in_front.append(Middleware(RequestMetrics, **options))  # type: ignore[arg-type]
            case "CORSMiddleware":
                in_front.append(Middleware(Cors, **options))
            case "OpenTelemetryMiddleware" if traces_requests():
                set_global_response_propagator(TraceResponsePropagator())  # type: ignore[no-untyped-call]
                in_front.append(middleware)
            case "ContextMiddleware" | "OpenTelemetryMiddleware":
                pass  # the context is for BentoML's own routes
            case _:
                in_front.append(middleware)
    return in_front, limits
