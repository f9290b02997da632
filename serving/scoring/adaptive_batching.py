"""BentoML's adaptive batching, its histogram, and its tracer, called in process.

`tests/test_private_parts.py` checks each assumption about BentoML, so that an upgrade fails there with a clear
message. Written for BentoML 1.4.40.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import TypeVar

from bentoml import server_context
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.marshal.dispatcher import CorkDispatcher, Optimizer
from opentelemetry.trace import Tracer
from prometheus_client import Histogram

MAX_LATENCY_MS = 10**12  # BentoML drops what it expects to take longer, by the clock: nothing, requests have a timeout
T = TypeVar("T")


def traces_requests() -> bool:
    """Tell whether traces are sent anywhere."""
    return BentoMLContainer.config.tracing.exporter_type.get() is not None


def get_tracer() -> Tracer | None:
    """Return the tracer of the service, `None` if nothing is traced."""
    return BentoMLContainer.tracer_provider.get().get_tracer("turing_test_service") if traces_requests() else None


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
    score: Callable[[Sequence[T]], Awaitable[None]], max_batch_size: int
) -> Callable[[T], Awaitable[T]]:
    """Return a function that puts one item into BentoML's adaptive batching, and returns it when it is scored.

    `score` gets up to `max_batch_size` items at a time, one batch after the other; an exception of it reaches each
    item's caller.
    """

    def cancelled() -> T:
        raise asyncio.CancelledError  # which BentoML catches

    dispatcher: CorkDispatcher[T, T] = CorkDispatcher(
        MAX_LATENCY_MS, max_batch_size, fallback=cancelled, get_batch_size=lambda _: 1
    )
    dispatcher.optimizer = NoWait(MAX_LATENCY_MS / 1000)

    async def observe_and_score(batch: Sequence[T]) -> Sequence[T]:
        _batch_sizes().observe(len(batch))
        await score(batch)
        return batch

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
        buckets=[2**power for power in range(7)],
    )
    return histogram.labels(**labels)
