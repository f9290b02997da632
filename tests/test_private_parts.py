"""What is assumed about private parts of uvicorn, BentoML and prometheus_client: a changed one fails here first.

If uvicorn has changed, compare its new `httptools_impl.py` with `serving/http/connections.py`.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn
from bentoml._internal.configuration.containers import BentoMLContainer
from prometheus_client import Histogram, values
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from models.chat import ChatToExplain
from service import SETTINGS, TuringTestService
from serving.http.bentoml_app import _component_name, api_methods, read_middleware
from serving.http.connections import HttpProtocol
from serving.http.request_metrics import RequestMetrics
from serving.process import do_not_track
from serving.schemas import ChatOrMessage, Chats
from serving.scoring.adaptive_batching import NoWait, Optimizer, adaptive_batching

APP = PlainTextResponse("hello")
BENTOML, UVICORN = (f"{package} {version(package)} changed " for package in ("bentoml", "uvicorn"))
OF_PROTOCOL = "connection_made connection_lost data_received on_headers_complete on_body on_message_complete shutdown"
OF_PROTOCOL += " pause_writing resume_writing _unset_keepalive_if_required"
OF_PROTOCOL += " cycle flow headers loop parser server_state timeout_keep_alive"


@pytest.mark.parametrize(
    ("package", "part", "names"),
    [
        ("uvicorn", lambda: HttpToolsProtocol(uvicorn.Config(APP), ServerState(), {}, Mock()), OF_PROTOCOL),
        ("uvicorn", lambda: RequestResponseCycle(*11 * [None]), "keep_alive response_complete response_started"),  # type: ignore[arg-type]
        ("bentoml", lambda: BentoMLContainer, "bentoml_home config model_store_dir prometheus_multiproc_dir"),
        ("bentoml", lambda: _component_name, "cache_clear"),
        ("bentoml", lambda: do_not_track, "cache_clear"),
        ("prometheus_client", lambda: values, "ValueClass MultiProcessValue MutexValue"),
        ("prometheus_client", lambda: Histogram("name", "text", registry=None), "_sum _buckets _upper_bounds"),
    ],
)
def test_private_parts_have_their_names(package: str, part: Callable[[], object], names: str) -> None:
    missing = [name for name in names.split() if not hasattr(part(), name)]
    assert not missing, f"{package} {version(package)} changed"


def test_uvicorn_takes_the_protocol_where_none_is_named() -> None:
    """As BentoML starts it; importing the service installs the protocol."""
    config = uvicorn.Config(APP)
    config.load()
    assert config.http_protocol_class is HttpProtocol, UVICORN + "how it looks up its protocol"
    assert HttpProtocol.keep_alive_seconds == SETTINGS.keep_alive_seconds


def test_the_server_handles_sigterm_before_the_app_starts() -> None:
    """`serving/http/shutdown.py` takes the place of its handler."""
    handlers: list[Any] = []

    async def app(_: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        handlers.append(signal.getsignal(signal.SIGTERM))
        await send({"type": "lifespan.startup.failed"})

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    with pytest.raises(SystemExit):
        server.run()
    assert handlers == [server.handle_exit], UVICORN + "its handling of SIGTERM"


def test_a_service_has_its_api_methods_by_route() -> None:
    found = {path: (body_type, method.__name__) for path, (body_type, method) in api_methods(TuringTestService).items()}
    assert found == {
        "/predict": (ChatOrMessage, "predict"),
        "/predict_batch": (Chats, "predict_batch"),
        "/explain": (ChatToExplain, "explain"),
    }, BENTOML + "Service.apis or APIMethod"
    specified = TuringTestService.openapi_spec.paths  # type: ignore[attr-defined]
    assert found.keys() <= specified.keys(), "bentoml build writes it"


def test_middleware_has_these_options() -> None:
    service = TuringTestService.to_asgi.__self__  # type: ignore[attr-defined]
    in_front, limits = read_middleware(super(type(service), service).to_asgi())
    assert limits["timeout"] == 6, BENTOML + "TimeoutMiddleware"
    assert limits["max_concurrency"] > 0, BENTOML + "MaxConcurrencyMiddleware"
    assert [one.cls for one in in_front] == [RequestMetrics], BENTOML + "its middleware"  # type: ignore[comparison-overlap]


def test_metrics_of_requests_are_made_once_for_each_middleware() -> None:
    made = [RequestMetrics(None, namespace="bentoml_service") for _ in range(2)]  # type: ignore[arg-type]
    assert all(one._is_setup for one in made), BENTOML + "RunnerTrafficMetricsMiddleware"
    cached = [name for name, value in vars(made[0]).items() if hasattr(getattr(value, "labels", None), "cache_info")]
    assert {"metrics_request_duration", "metrics_request_total"} < set(cached), BENTOML + "its metrics"


def test_the_dispatcher_learns_no_wait() -> None:
    def learned(optimizer: Optimizer) -> tuple[float, float]:
        for size in range(1, 50):
            optimizer.log_outbound(size, wait=0.05, duration=0.001 * size)
        optimizer.trigger_refresh()  # type: ignore[no-untyped-call]
        return optimizer.wait, optimizer.o_a

    assert learned(Optimizer(10)) == pytest.approx((0.05, 0.001)), BENTOML + "Optimizer"
    assert learned(NoWait(10)) == pytest.approx((0, 0.001)), BENTOML + "Optimizer"


def test_the_dispatcher_lets_its_callers_be_cancelled() -> None:
    """As when a request times out."""

    async def give_up() -> object:
        entered = asyncio.Event()

        async def score(_: Sequence[int]) -> None:
            entered.set()
            await asyncio.Event().wait()

        asked = asyncio.ensure_future(adaptive_batching(score, max_batch_size=8)(1))
        await entered.wait()
        asked.cancel()
        (outcome,) = await asyncio.gather(asked, return_exceptions=True)
        return outcome

    assert isinstance(asyncio.run(give_up()), asyncio.CancelledError), BENTOML + "CorkDispatcher"
