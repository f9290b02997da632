"""Scoring: one queue for everything small, a lane of its own for what is large.

Every chat is scored here, whether it came by itself, in a list, or as a dialog so far. As long as no other request
waits for a score, its chats go straight to the classifier. Otherwise they go through BentoML's adaptive batching: what
enters while a batch is scored forms the next one. Large chats are scored in a thread of their own, and explanations are
made in another, so that others are answered meanwhile.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import time_ns
from typing import TypeVar

from models.chat import EXAMPLE_CHAT, Chat, Explanation, Prediction
from models.classifier import Classifier
from models.explain import explain
from models.features import BOUNDARY
from serving.errors import Problem, RefusedError
from serving.log import get_request_id, of_requests
from serving.scoring.adaptive_batching import adaptive_batching, get_tracer
from serving.scoring.metrics import ModelMetrics
from serving.scoring.monitoring import Monitoring

MAX_BATCH_SIZE = 64  # chats; a larger batch gains nothing and delays the others
LARGE = 50_000  # characters; with all words new to the cache, they take 0.1 s, in which the worker answers nobody else
CHARACTERS_PER_MESSAGE = 20  # what a message costs besides its text
EXAMPLE = Chat.model_validate(EXAMPLE_CHAT)

T = TypeVar("T")
logger = logging.getLogger("bentoml.batching")


def size(chat: Chat) -> int:
    """Return what a chat costs to score, in characters."""
    return sum([len(message.text) + CHARACTERS_PER_MESSAGE for message in chat.messages])


@dataclass(slots=True)
class Job:
    """A chat on its way to its score. `is_abandoned`: nobody waits for it any more, so it is not scored.

    `size` is what it costs to score, in characters, and `words` the number of words of the chat. `is_dialog`: it is the
    dialog so far of a message. `arrived`, `started` and `ended` are ns since the epoch: when it came, and when it or
    its batch was scored.
    """

    chat: Chat
    size: int
    is_dialog: bool = False
    is_abandoned: bool = False
    prediction: Prediction | None = None
    words: int = 0
    arrived: int = field(default_factory=time_ns)
    started: int = 0
    ended: int = 0
    request_id: str = field(default_factory=get_request_id)


def parts_of(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Cut jobs into parts of at most `MAX_BATCH_SIZE` chats and `LARGE` characters; a large chat is a part by itself.

    Jobs that nobody waits for any more are left out.
    """
    part: list[Job] = []
    filled = 0
    for job in jobs:
        if job.is_abandoned:
            continue
        if part and (len(part) == MAX_BATCH_SIZE or filled + job.size > LARGE):
            yield part
            part, filled = [], 0
        part.append(job)
        filled += job.size
    if part:
        yield part


@contextmanager
def scoring(jobs: Sequence[Job]) -> Iterator[None]:
    """Time the scoring of jobs; an error leaves one traceback and becomes a 500 for whoever waits for the batch."""
    started = time_ns()
    try:
        yield
    except Exception:
        logger.exception("Scoring failed", extra=of_requests(job.request_id for job in jobs))
        raise RefusedError(Problem.INTERNAL) from None
    finally:
        ended = time_ns()
        for job in jobs:
            job.started, job.ended = started, ended


class SlowLane:
    """One thread for work that takes long. It has a classifier with a cache of its own."""

    def __init__(self, classifier: Classifier, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._classifier = classifier.for_another_thread()

    async def run(self, work: Callable[[Classifier], T]) -> T:
        """Do some work when its turn comes; it is skipped if the caller is cancelled first."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._classifier)


class Scorer:
    """Scores chats with a classifier, in batches."""

    def __init__(self, classifier: Classifier, monitoring: Monitoring | None = None) -> None:
        self._classifier = classifier
        self._monitoring = monitoring
        self._tracer = get_tracer()
        self._metrics = ModelMetrics(classifier.version)
        self._callers = 0  # requests that wait for a score
        self._enqueue = adaptive_batching(self._score_batch, MAX_BATCH_SIZE)
        self._large_chats = SlowLane(classifier, "large-chats")
        self._explanations = SlowLane(classifier, "explanations")

    async def predict(self, chats: Sequence[Chat], *, are_dialogs: bool = False) -> list[Prediction]:
        """Score chats; returns one prediction for each, in order.

        `are_dialogs` marks them in the monitoring log as dialogs so far, which are scored after every message.

        Raises `RefusedError` with 500 if scoring fails. The caller may cancel it at any time: what is left is then not
        scored.
        """
        jobs = [Job(chat, size(chat), are_dialogs) for chat in chats]
        self._callers += 1
        self._metrics.enter(len(jobs))
        try:
            for part in parts_of(jobs):
                # Requests that arrived meanwhile get in between: those that are ready to be scored are in `_callers`
                # when this one decides whether it has to queue.
                await asyncio.sleep(0)
                if part[0].size > LARGE:  # then it is the only one
                    await self._large_chats.run(partial(self._score, part))
                elif self._callers == 1:
                    self._score(part, self._classifier)
                elif len(part) == 1:  # without the task that `gather` makes for each
                    await self._enqueue(part[0])
                else:
                    await asyncio.gather(*map(self._enqueue, part))
        finally:
            self._callers -= 1
            self._metrics.enter(-len(jobs))
            for job in jobs:
                job.is_abandoned = True  # after an error or a timeout, some may still be in the queue
        self._trace(jobs)
        predictions = [job.prediction for job in jobs if job.prediction]
        for job, prediction in zip(jobs, predictions, strict=True):
            self._metrics.count(prediction, job.words, max(job.started - job.arrived, 0) / 1e9)
        return predictions

    def is_ready(self) -> bool:
        """Return whether chats can be scored, by scoring one outside of the queue, the metrics and the log."""
        try:
            self._classifier.predict([EXAMPLE])
        except Exception as error:  # after any error, requests get 500
            logger.error("Chats cannot be scored: %s", type(error).__name__)
            return False
        return True

    async def explain(self, chat: Chat) -> Explanation:
        """Score one chat and say what moved the score; raises `RefusedError` with 500 if that fails."""
        job = Job(chat, size(chat))

        def work(classifier: Classifier) -> Explanation:
            with scoring([job]):
                return explain(classifier, chat, lambda: not job.is_abandoned)

        self._metrics.enter(1)
        try:
            explanation = await self._explanations.run(work)
        finally:
            self._metrics.enter(-1)
            job.is_abandoned = True  # after a timeout, the thread stops at the next participant
        self._trace([job])
        return explanation

    async def _score_batch(self, batch: Sequence[Job]) -> None:
        """Score a batch of BentoML's adaptive batching, which counts chats and not their characters."""
        for number, part in enumerate(parts_of(batch)):
            if number:
                await asyncio.sleep(0)
            self._score(part, self._classifier)

    def _score(self, part: Sequence[Job], classifier: Classifier) -> None:
        """Score chats and complete their jobs. One assessment gives all that is answered and logged."""
        chats = [job.chat for job in part]
        with scoring(part):
            assessment = classifier.assess(chats)
            if self._monitoring:
                self._monitoring.record(classifier, chats, [job.is_dialog for job in part], assessment)
            predictions = classifier.to_predictions(chats, assessment)
            for job, prediction, sides in zip(part, predictions, assessment.sides, strict=True):
                job.prediction = prediction
                job.words = sum([len(side.words) - side.words.count(BOUNDARY) for side in sides])

    def _trace(self, jobs: Sequence[Job]) -> None:
        """Record, if traces are on, each job's wait in the queue and its scoring as spans of the current request."""
        if self._tracer is None:
            return
        for job in jobs:
            for name, start, end in (("queue", job.arrived, job.started), ("score", job.started, job.ended)):
                self._tracer.start_span(name, start_time=start).end(end)
