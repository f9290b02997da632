"""Scoring: one queue for everything small, a lane of its own for what is large.

Every chat is scored here, whether it came alone, in a batch, or as a dialog so far. A chat that comes while no other is
being scored goes straight to the classifier and never waits for company. Otherwise it joins BentoML's adaptive
batching: chats that arrive while a batch is scored form the next one. Large chats and explanations take their time in
threads of their own, so that others are answered meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import local
from time import time_ns
from typing import Self, TypeVar

from bentoml.exceptions import BentoMLException

from models.chat import EXAMPLE_CHAT, Chat, Explanation, Prediction
from models.classifier import SHIPPED, Classifier, ModelError
from models.explain import explain
from serving.bentoml_internals import adaptive_batching, get_tracer
from serving.errors import RefusedError
from serving.monitoring import Monitoring

MAX_BATCH_SIZE = 64  # chats; a larger batch gains nothing and delays the others
MAX_LATENCY_MS = 10_000  # BentoML rejects what it expects to take longer; the request's own timeout is shorter
LARGE = 50_000  # characters; scoring as many of unknown words takes 0.1 s, in which the worker answers nobody else
CHARACTERS_PER_MESSAGE = 20  # what a message costs besides its text
SLOW_THREADS = 2  # so that one long explanation does not hold up every other large request

T = TypeVar("T")
logger = logging.getLogger("bentoml.batching")


def size(chat: Chat) -> int:
    """Return what a chat costs to score, in characters."""
    return sum([len(message.text) + CHARACTERS_PER_MESSAGE for message in chat.messages])


@dataclass(slots=True)
class Job:
    """A chat in the queue, with the times in ns since the epoch at which it came and its batch was scored."""

    chat: Chat
    arrived: int = field(default_factory=time_ns)
    started: int = 0
    ended: int = 0


class Scorer:
    """Scores chats with a classifier, in batches."""

    def __init__(self, classifier: Classifier, monitoring: Monitoring | None = None) -> None:
        self._classifier = classifier
        self._monitoring = monitoring
        self._tracer = get_tracer()
        self._waiting = 0  # callers whose chats are not scored yet
        overloaded = RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "no answer in time; try again")
        self._enqueue = adaptive_batching(self._score_batch, overloaded, MAX_BATCH_SIZE, MAX_LATENCY_MS)
        self._slow_lane = ThreadPoolExecutor(SLOW_THREADS, "slow-lane")
        self._of_thread = local()  # a classifier for each thread, because its cache is not for two

    @classmethod
    def load(cls, folder: Path | None = None, monitoring: Monitoring | None = None) -> Self:
        """Load the model of a folder, or the shipped one, and score once with it.

        Raises BentoMLException with one line if that is not possible.
        """
        try:
            classifier = Classifier.load(folder or SHIPPED)
        except ModelError as error:
            raise BentoMLException(f"cannot serve the model: {error}") from None
        classifier.predict([Chat.model_validate(EXAMPLE_CHAT)])
        return cls(classifier, monitoring)

    async def predict(self, chats: Sequence[Chat]) -> list[Prediction]:
        """Score chats; returns one prediction for each, in order.

        Raises `RefusedError` with 500 if scoring fails, with 503 if it takes too long.
        """
        jobs = [Job(chat) for chat in chats]
        self._waiting += 1
        try:
            await asyncio.sleep(0)  # requests that arrived at the same time see each other
            if self._waiting == 1 and sum(map(size, chats)) <= LARGE:
                predictions = await self._score_batch(jobs)
            elif len(jobs) == 1:
                predictions = [await self._predict_one(jobs[0])]
            else:
                predictions = await asyncio.gather(*map(self._predict_one, jobs))
        finally:
            self._waiting -= 1
        self._trace(jobs)
        return predictions

    async def explain(self, chat: Chat) -> Explanation:
        """Score one chat and say what moved the score; raises as `predict` does."""
        job = Job(chat)
        explanation = await self._in_slow_lane(lambda classifier: explain(classifier, chat), job)
        self._trace([job])
        return explanation

    async def _predict_one(self, job: Job) -> Prediction:
        if size(job.chat) <= LARGE:
            return await self._enqueue(job)
        return (await self._in_slow_lane(lambda classifier: self._answer(classifier, [job.chat]), job))[0]

    async def _score_batch(self, jobs: Sequence[Job]) -> list[Prediction]:
        """Score a batch on the event loop, `LARGE` characters at a time, with others let in between."""
        predictions: list[Prediction] = []
        for part in _parts(jobs):
            if predictions:
                await asyncio.sleep(0)
            predictions += _run(partial(self._answer, self._classifier, [job.chat for job in part]), part)
        return predictions

    def _answer(self, classifier: Classifier, chats: Sequence[Chat]) -> list[Prediction]:
        assessment = classifier.assess(chats)
        if self._monitoring:
            self._monitoring.record(classifier.version, chats, assessment)
        return classifier.answers(chats, assessment)

    async def _in_slow_lane(self, work: Callable[[Classifier], T], job: Job) -> T:
        def run() -> T:
            if not hasattr(self._of_thread, "classifier"):
                self._of_thread.classifier = Classifier(self._classifier.weights, self._classifier.version)
            return _run(lambda: work(self._of_thread.classifier), [job])

        return await asyncio.get_running_loop().run_in_executor(self._slow_lane, run)

    def _trace(self, jobs: Sequence[Job]) -> None:
        """Record, if traces are on, each job's wait in the queue and its scoring as spans of the current request."""
        if self._tracer is None:
            return
        for job in jobs:
            for name, start, end in (("queue", job.arrived, job.started), ("score", job.started, job.ended)):
                self._tracer.start_span(name, start_time=start).end(end)


def _run(work: Callable[[], T], jobs: Sequence[Job]) -> T:
    """Do the work of some jobs; an error leaves one traceback in the log and becomes a 500 for all who wait for it."""
    started = time_ns()
    try:
        return work()
    except Exception:
        logger.exception("Scoring failed")
        raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR) from None
    finally:
        ended = time_ns()
        for job in jobs:
            job.started, job.ended = started, ended


def _parts(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Cut a batch into parts of at most `MAX_BATCH_SIZE` chats and, unless it is one chat, `LARGE` characters."""
    part: list[Job] = []
    filled = 0
    for job in jobs:
        if part and (len(part) == MAX_BATCH_SIZE or filled + size(job.chat) > LARGE):
            yield part
            part, filled = [], 0
        part.append(job)
        filled += size(job.chat)
    if part:
        yield part
