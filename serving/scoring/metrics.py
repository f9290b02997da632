"""Metrics of the model, next to BentoML's metrics of requests in `/metrics`.

With `PROMETHEUS_MULTIPROC_DIR`, which BentoML sets for its workers, prometheus_client adds up the values of all worker
processes. The only labels are the model's version and the confidence, so the number of series is fixed.
"""

import asyncio
from collections import Counter as Counts
from collections.abc import Sequence
from functools import cache

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

from models.chat import Prediction
from records.monitoring_log import CONFIDENCES

WRITE_EVERY = 0.25  # seconds

# The bounds of `confidence`, for bots and for humans, are among them.
PROBABILITIES = (0.02, 0.04, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96, 0.98, 1.0)
WORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
WAITS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds


class ModelMetrics:
    """What a model of some version answers, and how long chats wait for it.

    Chats are collected and written `WRITE_EVERY` seconds later, all at once: one after the other, they would take a
    tenth of the time of a request (`python -m benchmarks.metrics`).
    """

    def __init__(self, version: str) -> None:
        metrics = _metrics()
        self._answers = {name: metrics.answers.labels(version, name) for name in CONFIDENCES}
        self._probability = metrics.probability.labels(version)
        self._words = metrics.words.labels(version)
        self._wait, self._queue = metrics.wait, metrics.queue
        self._in_queue = 0
        self._scored: list[tuple[Prediction, int, float]] = []
        self._writes_on: asyncio.AbstractEventLoop | None = None

    def enter(self, chats: int) -> None:
        """Count chats as in the queue, or as out of it again if the number is negative."""
        self._in_queue += chats
        loop = asyncio.get_running_loop()
        if self._writes_on is not loop:
            self._writes_on = loop
            loop.call_later(WRITE_EVERY, self.write)

    def count(self, prediction: Prediction, words: int, waited: float) -> None:
        """Count a chat of so many words that was scored; `waited` is the seconds that it waited for that."""
        self._scored.append((prediction, words, waited))

    def write(self) -> None:
        """Write what was collected to the metrics."""
        self._writes_on = None
        self._queue.set(self._in_queue)
        if not self._scored:
            return
        predictions, words, waits = zip(*self._scored, strict=True)
        self._scored.clear()
        participants = [participant for prediction in predictions for participant in prediction.participants]
        for name, number in Counts(participant.confidence for participant in participants).items():
            self._answers[name].inc(number)
        self._probability.observe_all([participant.is_bot_probability for participant in participants])
        self._words.observe_all(words)
        self._wait.observe_all(waits)


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once, which prometheus_client's own does not."""

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe values as `observe` does one by one."""
        self._sum.inc(float(np.sum(values)))
        buckets = np.bincount(np.searchsorted(self._upper_bounds, values), minlength=len(self._buckets))
        for number in np.flatnonzero(buckets):
            self._buckets[number].inc(int(buckets[number]))


def set_dialogs(number: int) -> None:
    """Set the number of dialogs in the store; of several workers, the last to set it is right."""
    _metrics().dialogs.set(number)


class _Metrics:
    """The metrics of this process; the registry of prometheus_client takes each only once."""

    def __init__(self) -> None:
        self.answers = Counter(
            "turing_test_answers_total",
            "Participants scored, by the confidence of the answer",
            ["model_version", "confidence"],
        )
        self.probability = BulkHistogram(
            "turing_test_bot_probability_ratio",
            "Probability of being a bot, for each participant scored",
            ["model_version"],
            buckets=PROBABILITIES,
        )
        self.words = BulkHistogram("turing_test_chat_words", "Words in a chat", ["model_version"], buckets=WORDS)
        self.wait = BulkHistogram(
            "turing_test_queue_wait_seconds", "Time that a chat waited before it was scored", buckets=WAITS
        )
        self.queue = Gauge(
            "turing_test_queue_chats", "Chats that are in the queue or being scored", multiprocess_mode="livesum"
        )
        self.dialogs = Gauge(
            "turing_test_dialogs", "Dialogs in the store, counted every five minutes", multiprocess_mode="mostrecent"
        )


@cache
def _metrics() -> _Metrics:
    return _Metrics()
