"""The queue in front of the classifier: what is scored together, what is scored at once, what happens to errors."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import pytest

from models.chat import Chat, Prediction
from models.classifier import Assessment, Classifier
from models.explain import weigh
from serving.errors import RefusedError
from serving.scoring.batching import LARGE, MAX_BATCH_SIZE, Scorer
from tests.conftest import make_chat, sample_bodies

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


def test_a_chat_that_comes_alone_is_scored_at_once(recorder: Recorder) -> None:
    async def one_after_the_other() -> None:
        scorer = Scorer(recorder)
        for _ in range(20):
            await scorer.predict([SMALL])

    asyncio.run(one_after_the_other())
    assert recorder.batches == [1] * 20


def test_chats_that_come_together_are_scored_together_and_each_gets_its_own_answer(
    recorder: Recorder, classifier: Classifier
) -> None:
    chats = [Chat.model_validate(body) for body in sample_bodies()] * 4

    async def together() -> list[Prediction]:
        scorer = Scorer(recorder)
        for _ in range(20):  # the first batches teach the dispatcher and are small
            answers = await asyncio.gather(*(scorer.predict([chat]) for chat in chats))
        return [prediction for (prediction,) in answers]

    assert_same(asyncio.run(together()), classifier.predict(chats))
    assert max(recorder.batches) == MAX_BATCH_SIZE


def test_large_chats_are_scored_in_a_thread(recorder: Recorder, classifier: Classifier) -> None:
    async def mixed() -> list[Prediction]:
        return await Scorer(recorder).predict([SMALL, BIG, SMALL])

    assert_same(asyncio.run(mixed()), classifier.predict([SMALL, BIG, SMALL]))
    assert recorder.threads.count("large-chats_0") == 1
    assert set(recorder.threads) == {"MainThread", "large-chats_0"}
    assert sum(recorder.batches) == 3


def test_a_small_chat_gets_in_between_the_parts_of_a_large_batch(recorder: Recorder) -> None:
    big_batch = [make_chat((0, "word " * 600), (1, "word " * 600)) for _ in range(100)]

    async def beside_it() -> int:
        scorer = Scorer(recorder)
        large = asyncio.ensure_future(scorer.predict(big_batch))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await scorer.predict([SMALL])
        before = sum(recorder.batches)
        await large
        return before

    assert asyncio.run(beside_it()) < 40
    assert sum(recorder.batches) == 101


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


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setattr("models.explain.weigh", held.weigh)
    return held


def test_an_explanation_that_nobody_waits_for_stops(classifier: Classifier, held: Held) -> None:
    async def give_up() -> None:
        scorer = Scorer(classifier)
        asked = asyncio.ensure_future(scorer.explain(BIG))
        assert await asyncio.to_thread(held.begun.wait, 30)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        held.go_on.set()
        await scorer.explain(SMALL)  # takes its turn when the thread is free

    asyncio.run(give_up())
    assert held.participants == 1 + len({message.participant_id for message in SMALL.messages})


def test_a_small_chat_does_not_wait_for_explanations(classifier: Classifier, held: Held) -> None:
    async def beside_two_explanations() -> None:
        scorer = Scorer(classifier)
        explanations = [asyncio.ensure_future(scorer.explain(SMALL)) for _ in range(2)]
        assert await asyncio.to_thread(held.begun.wait, 30)
        await asyncio.wait_for(scorer.predict([SMALL]), 30)
        assert not any(explanation.done() for explanation in explanations)
        held.go_on.set()
        await asyncio.gather(*explanations)

    asyncio.run(beside_two_explanations())


def test_an_error_reaches_every_caller_and_leaves_one_traceback(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.broken = True

    async def together() -> list[Any]:
        scorer = Scorer(recorder)
        return await asyncio.gather(*(scorer.predict([SMALL]) for _ in range(8)), return_exceptions=True)

    with caplog.at_level(logging.ERROR):
        outcomes = asyncio.run(asyncio.wait_for(together(), 30))
    assert {type(outcome) for outcome in outcomes} == {RefusedError}
    assert {outcome.status for outcome in outcomes} == {HTTPStatus.INTERNAL_SERVER_ERROR}
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == len(recorder.batches)


def test_chats_whose_caller_has_given_up_are_not_scored_and_others_are(recorder: Recorder) -> None:
    async def give_up() -> list[Any]:
        scorer = Scorer(recorder)
        asked = [asyncio.ensure_future(scorer.predict([SMALL] * 200)) for _ in range(10)]
        stays = asyncio.ensure_future(scorer.predict([SMALL] * 8))
        await asyncio.sleep(0)
        while not recorder.batches:
            await asyncio.sleep(0)
        for one in asked:
            one.cancel()
        return [sum(recorder.batches), *await asyncio.gather(stays, *asked, return_exceptions=True)]

    before, stayed, *outcomes = asyncio.run(asyncio.wait_for(give_up(), 30))
    assert len(stayed) == 8
    assert all(isinstance(outcome, asyncio.CancelledError | RefusedError) for outcome in outcomes)
    assert sum(recorder.batches) <= before + MAX_BATCH_SIZE + 8
