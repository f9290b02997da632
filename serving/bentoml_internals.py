"""What relies on private parts of BentoML, except for the shape of its OpenAPI document (`serving/swagger.py`).

`tests/test_bentoml_internals.py` checks each of these assumptions by name, so that an upgrade of BentoML fails there
with a clear message. Written for BentoML 1.4.40.
"""

import atexit
import os
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Any, TypeVar, get_type_hints

from _bentoml_impl.server.app import ContextMiddleware
from bentoml import server_context
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.log import _component_name
from bentoml._internal.marshal.dispatcher import CorkDispatcher, Optimizer
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from bentoml._internal.server.http.traffic import MaxConcurrencyMiddleware, TimeoutMiddleware
from bentoml._internal.utils.analytics.usage_stats import do_not_track
from bentoml._internal.utils.metrics import exponential_buckets
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.trace import Tracer
from prometheus_client import Histogram
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from serving.middleware import Cors

T = TypeVar("T")
R = TypeVar("R")


def configure_process() -> None:
    """Set what BentoML reads before it starts workers: telemetry, metrics, dead workers, threads.

    The numbers of threads and of heaps take effect in the workers alone, as NumPy is already loaded here.
    """
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    do_not_track.cache_clear()  # the bentoml command reads the variable before it loads the service
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:  # workers inherit it
        # BentoML empties the folder at the start: each service needs one of its own, not one in BENTOML_HOME for all.
        folder = str(Path(gettempdir(), f"turing_test_service-metrics-{os.getpid()}"))
        BentoMLContainer.prometheus_multiproc_dir.set(folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.pop("BENTOML_CONTAINERIZED", None)  # set in images, where BentoML then does not replace dead workers
    # The model's matrices are small: threads for them only take cores away from other workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # a heap for each thread takes 10 MB more and is no faster here


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


def traces_requests() -> bool:
    """Tell whether traces are sent anywhere."""
    return BentoMLContainer.config.tracing.exporter_type.get() is not None


def get_tracer() -> Tracer | None:
    """Return the tracer of the service, `None` if nothing is traced."""
    return BentoMLContainer.tracer_provider.get().get_tracer("turing_test_service") if traces_requests() else None


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


class NoWait(Optimizer):
    """Never holds a request back for more to come: requests that arrive during a batch form the next one.

    BentoML's own optimizer learns a wait from past queueing and forgets it slowly, so that clients wait
    for others that never come after a burst (`docs/design.md` has the figures).
    """

    def trigger_refresh(self) -> None:
        """Update the estimated duration of a batch and leave the wait at zero."""
        super().trigger_refresh()  # type: ignore[no-untyped-call]
        self.wait = 0


def adaptive_batching(
    score: Callable[[Sequence[T]], Coroutine[None, None, Sequence[R]]],
    overloaded: Callable[[], Exception],
    max_batch_size: int,
    max_latency_ms: int,
) -> Callable[[T], Awaitable[R]]:
    """Return a function that puts one item into BentoML's adaptive batching and returns its result.

    `score` gets up to `max_batch_size` items at a time, one batch after the other, and returns as many results; an
    exception of it reaches each item's caller. `overloaded` makes the exception that is raised for an item that is
    expected to take longer than `max_latency_ms`, and for one whose caller is cancelled.
    """

    def give_up() -> R:
        raise overloaded()  # a new one each time: an exception keeps the frames that it was raised in

    dispatcher: CorkDispatcher[T, R] = CorkDispatcher(
        max_latency_ms, max_batch_size, fallback=give_up, get_batch_size=lambda _: 1
    )
    dispatcher.optimizer = NoWait(max_latency_ms / 1000)

    async def observe_and_score(batch: Sequence[T]) -> Sequence[R]:
        _batch_sizes().observe(len(batch))
        return await score(batch)

    return dispatcher(observe_and_score)  # type: ignore[return-value]


@cache
def _batch_sizes() -> Histogram:
    """Return BentoML's histogram of batch sizes, which it fills only for requests to its own routes."""
    labels = {
        "runner_name": server_context.service_name,
        "worker_index": server_context.worker_index,
        "method_name": "predict",
        "service_version": server_context.bento_version,
        "service_name": server_context.bento_name,
    }
    histogram = Histogram(
        "bentoml_service_adaptive_batch_size",
        "Service adaptive batch size",
        labels,
        buckets=exponential_buckets(1, 2, 64),
    )
    return histogram.labels(**labels)
