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
from functools import partial
from http import HTTPStatus
from threading import local
from typing import TypeVar

from models.chat import Chat, Explanation, Prediction
from models.classifier import Classifier
from models.explain import explain
from serving.bentoml_internals import adaptive_batching
from serving.errors import RefusedError

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


class Scorer:
    """Scores chats with a classifier, in batches."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting = 0  # callers whose chats are not scored yet
        overloaded = RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "no answer in time; try again")
        self._enqueue = adaptive_batching(self._score_batch, overloaded, MAX_BATCH_SIZE, MAX_LATENCY_MS)
        self._slow_lane = ThreadPoolExecutor(SLOW_THREADS, "slow-lane")
        self._of_thread = local()  # a classifier for each thread, because its cache is not for two

    async def predict(self, chats: Sequence[Chat]) -> list[Prediction]:
        """Score chats; returns one prediction for each, in order.

        Raises `RefusedError` with 500 if scoring fails, with 503 if it takes too long.
        """
        self._waiting += 1
        try:
            await asyncio.sleep(0)  # requests that arrived at the same time see each other
            if self._waiting == 1 and sum(map(size, chats)) <= LARGE:
                return await self._score_batch(chats)
            if len(chats) == 1:
                return [await self._predict_one(chats[0])]
            return await asyncio.gather(*map(self._predict_one, chats))
        finally:
            self._waiting -= 1

    async def explain(self, chat: Chat) -> Explanation:
        """Score one chat and say what moved the score; raises as `predict` does."""
        return await self._in_slow_lane(lambda classifier: explain(classifier, chat))

    async def _predict_one(self, chat: Chat) -> Prediction:
        if size(chat) <= LARGE:
            return await self._enqueue(chat)
        return (await self._in_slow_lane(lambda classifier: classifier.predict([chat])))[0]

    async def _score_batch(self, chats: Sequence[Chat]) -> list[Prediction]:
        """Score chats on the event loop, `LARGE` characters at a time, with others let in between."""
        predictions: list[Prediction] = []
        for part in _parts(chats):
            if predictions:
                await asyncio.sleep(0)
            predictions += self._guarded(partial(self._classifier.predict, part))
        return predictions

    async def _in_slow_lane(self, work: Callable[[Classifier], T]) -> T:
        def run() -> T:
            if not hasattr(self._of_thread, "classifier"):
                self._of_thread.classifier = Classifier(self._classifier.weights, self._classifier.version)
            return self._guarded(lambda: work(self._of_thread.classifier))

        return await asyncio.get_running_loop().run_in_executor(self._slow_lane, run)

    def _guarded(self, work: Callable[[], T]) -> T:
        """Do some work; an error leaves one traceback in the log and becomes a 500 for everyone who waits for it."""
        try:
            return work()
        except Exception:
            logger.exception("Scoring failed")
            raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR) from None


def _parts(chats: Sequence[Chat]) -> Iterator[Sequence[Chat]]:
    """Cut a batch into parts of at most `MAX_BATCH_SIZE` chats and, unless it is one chat, `LARGE` characters."""
    part: list[Chat] = []
    filled = 0
    for chat in chats:
        if part and (len(part) == MAX_BATCH_SIZE or filled + size(chat) > LARGE):
            yield part
            part, filled = [], 0
        part.append(chat)
        filled += size(chat)
    yield part
