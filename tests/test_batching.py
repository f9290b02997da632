"""The queue in front of the classifier: what is scored together, what is scored at once, what happens to errors."""

import asyncio
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest

from models.chat import Chat, Prediction
from models.classifier import Assessment, Classifier
from models.explain import weigh
from serving.scoring.batching import LARGE, MAX_BATCH_SIZE, Scorer
from tests.conftest import make_chat, sample_bodies

pytestmark = pytest.mark.anyio

SMALL = make_chat((0, "hello there"), (1, "who are you"))
BIG = make_chat(*((n % 2, "word " * 1_000) for n in range(LARGE // 5_000 + 1)))


class Recorder(Classifier):
    """A classifier that remembers its batches, and fails where it is told to."""

    batches: list[int]
    threads: list[str]
    broken = False

    def assess(self, chats: Sequence[Chat], expected_bot_share: float | None = None) -> Assessment:
        self.batches.append(len(chats))
        self.threads.append(threading.current_thread().name)
        if self.broken:
            raise ArithmeticError("broken")
        return super().assess(chats, expected_bot_share)


@pytest.fixture
def recorder(classifier: Classifier) -> Recorder:
    recorder = Recorder(classifier.weights, classifier.version)
    recorder.batches, recorder.threads = [], []
    return recorder


def assert_same(got: Sequence[Prediction], expected: Sequence[Prediction]) -> None:
    """Compare predictions, but for the last digits, which depend on the batch."""
    assert [one.chat_id for one in got] == [one.chat_id for one in expected]
    found, wanted = ([side.is_bot_probability for one in some for side in one.participants] for some in (got, expected))
    assert found == pytest.approx(wanted, abs=1e-12)


async def test_a_chat_that_comes_alone_is_scored_at_once(recorder: Recorder) -> None:
    asked = asyncio.ensure_future(Scorer(recorder).predict([SMALL]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert recorder.batches == [1]
    await asked


async def test_chats_that_come_together_are_scored_together_and_each_gets_its_own_answer(
    recorder: Recorder, classifier: Classifier
) -> None:
    chats = [Chat.model_validate(body) for body in sample_bodies()] * 4
    scorer = Scorer(recorder)
    answers = await asyncio.gather(*(scorer.predict([chat]) for chat in chats))
    assert_same([prediction for (prediction,) in answers], classifier.predict(chats))
    assert max(recorder.batches) == MAX_BATCH_SIZE


async def test_large_chats_are_scored_in_a_thread(recorder: Recorder, classifier: Classifier) -> None:
    answers = await Scorer(recorder).predict([SMALL, BIG, SMALL])
    assert_same(answers, classifier.predict([SMALL, BIG, SMALL]))
    assert recorder.threads.count("large-chats_0") == 1
    assert set(recorder.threads) == {"MainThread", "large-chats_0"}
    assert sum(recorder.batches) == 3


async def test_a_small_chat_gets_in_between_the_parts_of_a_large_batch(recorder: Recorder) -> None:
    scorer = Scorer(recorder)
    large = asyncio.ensure_future(scorer.predict([make_chat((0, "word " * 600), (1, "word " * 600))] * 100))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await scorer.predict([SMALL])
    assert sum(recorder.batches) < 40
    await large
    assert sum(recorder.batches) == 101


async def test_chats_wait_also_while_the_clock_is_set_forward(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BentoML would cancel what seems to wait for long, and the request would get no answer in the one shape."""
    days = itertools.count(step=86_400)
    monkeypatch.setattr("bentoml._internal.marshal.dispatcher.time", SimpleNamespace(time=lambda: next(days)))
    scorer = Scorer(recorder)
    answers = await asyncio.gather(*(scorer.predict([SMALL]) for _ in range(20)))
    assert [len(answer) for answer in answers] == [1] * 20


@dataclass
class Held:
    """Explaining that has begun with so many participants, and goes on when it is told to."""

    participants: int = 0
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def weigh(self, *arguments: Any) -> Any:
        self.participants += 1
        self.begun.set()
        assert self.go_on.wait(30)
        return weigh(*arguments)


async def test_no_chat_waits_for_explanations_and_those_that_nobody_waits_for_stop(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    monkeypatch.setattr("models.explain.weigh", held.weigh)
    scorer = Scorer(classifier)
    given_up = asyncio.ensure_future(scorer.explain(BIG))
    waits = asyncio.ensure_future(scorer.explain(SMALL))
    assert await asyncio.to_thread(held.begun.wait, 30)
    await asyncio.wait_for(scorer.predict([SMALL, BIG]), 30)
    assert not given_up.done()
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    held.go_on.set()
    assert len((await waits).participants) == 2
    assert held.participants == 1 + 2


async def test_an_error_reaches_every_caller_and_leaves_one_traceback(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.broken = True
    scorer = Scorer(recorder)
    outcomes = await asyncio.gather(*(scorer.predict([SMALL]) for _ in range(8)), return_exceptions=True)
    assert [getattr(outcome, "status", outcome) for outcome in outcomes] == [HTTPStatus.INTERNAL_SERVER_ERROR] * 8
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == len(recorder.batches) < 8


async def test_chats_whose_caller_has_given_up_are_not_scored_and_others_are(recorder: Recorder) -> None:
    scorer = Scorer(recorder)
    asked = [asyncio.ensure_future(scorer.predict([SMALL] * 200)) for _ in range(10)]
    stays = asyncio.ensure_future(scorer.predict([SMALL] * 8))
    await asyncio.sleep(0)
    while not recorder.batches:
        await asyncio.sleep(0)
    before = sum(recorder.batches)
    for one in asked:
        one.cancel()
    stayed, *outcomes = await asyncio.gather(stays, *asked, return_exceptions=True)
    assert not isinstance(stayed, BaseException)
    assert len(stayed) == 8
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert sum(recorder.batches) <= before + MAX_BATCH_SIZE + 8
