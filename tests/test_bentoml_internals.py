"""What is assumed about private parts of BentoML and prometheus_client: a changed one fails here first."""

import asyncio
from collections.abc import Sequence
from importlib.metadata import version

import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from prometheus_client import Histogram
from starlette.applications import Starlette
from starlette.middleware import Middleware

from models.chat import ChatToExplain
from service import TuringTestService
from serving.http.bentoml_app import _component_name, api_methods, read_middleware
from serving.http.request_metrics import RequestMetrics
from serving.process import do_not_track
from serving.schemas import ChatOrMessage, Chats
from serving.scoring.adaptive_batching import NoWait, Optimizer, adaptive_batching

CHANGED = f"BentoML {version('bentoml')} changed "


def test_a_service_has_its_api_methods_by_route() -> None:
    found = {path: (body_type, method.__name__) for path, (body_type, method) in api_methods(TuringTestService).items()}
    assert found == {
        "/predict": (ChatOrMessage, "predict"),
        "/predict_batch": (Chats, "predict_batch"),
        "/explain": (ChatToExplain, "explain"),
    }, CHANGED + "Service.apis or APIMethod"


def test_bentoml_build_can_write_its_specification() -> None:
    assert {"/predict", "/predict_batch", "/explain"} <= TuringTestService.openapi_spec.paths.keys()  # type: ignore[attr-defined]


def test_the_name_of_a_worker_in_the_log_is_cached() -> None:
    assert hasattr(_component_name, "cache_clear"), CHANGED + "_component_name"


def test_the_dispatcher_batches_and_returns_each_result_to_its_caller() -> None:
    sizes = []

    async def double(numbers: Sequence[int]) -> Sequence[int]:
        sizes.append(len(numbers))
        return [2 * number for number in numbers]

    async def together() -> list[int]:
        enqueue = adaptive_batching(double, OverloadedError, max_batch_size=8, max_latency_ms=10_000)
        for _ in range(20):
            results = await asyncio.gather(*(enqueue(number) for number in range(20)))
        return results

    assert asyncio.run(together()) == [2 * number for number in range(20)], CHANGED + "CorkDispatcher"
    assert max(sizes) == 8, CHANGED + "CorkDispatcher"


def test_the_dispatcher_learns_no_wait() -> None:
    def learned(optimizer: Optimizer) -> tuple[float, float]:
        for size in range(1, 50):
            optimizer.log_outbound(size, wait=0.05, duration=0.001 * size)
        optimizer.trigger_refresh()  # type: ignore[no-untyped-call]
        return optimizer.wait, optimizer.o_a

    assert learned(Optimizer(10)) == pytest.approx((0.05, 0.001)), CHANGED + "Optimizer"
    assert learned(NoWait(10)) == pytest.approx((0, 0.001)), CHANGED + "Optimizer"


def test_the_dispatcher_gives_up_with_an_exception_for_each_caller() -> None:
    """One that all callers share would keep everything that they were doing from being freed."""

    async def stuck(numbers: Sequence[int]) -> Sequence[int]:
        await asyncio.sleep(60)
        return numbers

    async def cancelled() -> list[BaseException | int]:
        enqueue = adaptive_batching(stuck, OverloadedError, max_batch_size=8, max_latency_ms=10_000)
        asked = [asyncio.ensure_future(enqueue(number)) for number in range(3)]
        await asyncio.sleep(0.05)
        for one in asked:
            one.cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    outcomes = asyncio.run(cancelled())
    assert [type(outcome) for outcome in outcomes] == [OverloadedError] * 3, CHANGED + "CorkDispatcher"
    assert len({id(outcome) for outcome in outcomes}) == 3


def test_middleware_has_these_options() -> None:
    service = TuringTestService.to_asgi.__self__  # type: ignore[attr-defined]
    found = read_middleware(super(type(service), service).to_asgi())
    assert found.timeout == 6, CHANGED + "TimeoutMiddleware"
    assert found.max_in_flight is not None, CHANGED + "MaxConcurrencyMiddleware"
    assert [one.cls for one in found.in_front] == [RequestMetrics], CHANGED + "its middleware"  # type: ignore[comparison-overlap]


class OverloadedError(Exception):
    """What the dispatcher raises for items that it gives up."""


def test_metrics_of_requests_are_made_once_for_each_middleware() -> None:
    made = [RequestMetrics(None, namespace="bentoml_service") for _ in range(2)]  # type: ignore[arg-type]
    assert all(one._is_setup for one in made), CHANGED + "RunnerTrafficMetricsMiddleware"
    cached = [name for name, value in vars(made[0]).items() if hasattr(getattr(value, "labels", None), "cache_info")]
    assert {"metrics_request_duration", "metrics_request_total"} < set(cached), CHANGED + "its metrics"


def test_unknown_middleware_is_kept() -> None:
    class Other:
        pass

    app = Starlette(middleware=[Middleware(Other)])  # type: ignore[arg-type]
    kept: list[object] = [middleware.cls for middleware in read_middleware(app).in_front]
    assert kept == [Other]


@pytest.mark.parametrize("name", ["bentoml_home", "config", "model_store_dir", "prometheus_multiproc_dir"])
def test_the_container_has_the_settings_that_are_used(name: str) -> None:
    assert hasattr(BentoMLContainer, name), CHANGED + "BentoMLContainer"


def test_a_histogram_has_the_parts_that_are_added_to() -> None:
    histogram = Histogram("name", "text", registry=None)
    for name in ("_sum", "_buckets", "_upper_bounds"):
        assert hasattr(histogram, name), f"prometheus_client {version('prometheus_client')} changed Histogram"


def test_telemetry_is_off() -> None:
    assert do_not_track(), CHANGED + "do_not_track"
