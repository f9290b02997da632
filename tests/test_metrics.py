"""The metrics of the model in `/metrics`, for all workers together."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from models.classifier import Classifier
from records.monitoring_log import CONFIDENCES
from serving.scoring.batching import LARGE
from serving.scoring.metrics import PROBABILITIES, BulkHistogram
from tests.conftest import Server, running, sample_bodies, send, wait_until

NAMES = {
    "turing_test_answers": "counter",
    "turing_test_bot_probability_ratio": "histogram",
    "turing_test_chat_words": "histogram",
    "turing_test_queue_wait_seconds": "histogram",
    "turing_test_queue_chats": "gauge",
    "turing_test_dialogs": "gauge",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server of two workers that no other test talks to."""
    with running(tmp_path_factory.mktemp("server"), WORKERS="2") as started:
        yield started


def samples(server: Server) -> dict[str, float]:
    """Return the model's metrics: values by the sample's name and, apart from the version, labels."""
    found = {}
    for family in text_string_to_metric_families(send(f"{server.url}/metrics").text):
        if family.name.startswith("turing_test"):
            assert family.type == NAMES[family.name]
            for sample in family.samples:
                labels = {name: value for name, value in sample.labels.items() if name != "model_version"}
                found[" ".join([sample.name, *labels.values()])] = sample.value
    return found


def answers(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if name.startswith("turing_test_answers_total")}


def added(server: Server, before: dict[str, float], number: float) -> dict[str, float]:
    """Wait until so many more participants are counted and none waits; returns what each sample has grown by."""
    expected = sum(answers(before).values()) + number

    def are_counted() -> bool:
        found = samples(server)
        return sum(answers(found).values()) >= expected and found["turing_test_queue_chats"] == 0

    wait_until(are_counted, 10)
    return {name: value - before.get(name, 0) for name, value in samples(server).items()}


def test_the_bounds_of_confidence_are_bounds_of_the_histogram(classifier: Classifier) -> None:
    rules = classifier.weights.rules
    bounds = {bound for least in (float(rules.high), float(rules.medium)) for bound in (least, 1 - least)}
    assert all(np.isclose(PROBABILITIES, bound).any() for bound in bounds)


def test_every_metric_is_there_before_the_first_chat(server: Server) -> None:
    families = {family.name: family for family in text_string_to_metric_families(send(f"{server.url}/metrics").text)}
    assert set(NAMES) <= set(families)
    answers = families["turing_test_answers"].samples
    assert {sample.labels["confidence"] for sample in answers} == set(CONFIDENCES)
    assert {sample.labels["model_version"] for sample in answers} == {Classifier.load().version}
    assert [sample.value for sample in families["turing_test_dialogs"].samples] == [0]
    labels = {name for family in NAMES for sample in families[family].samples for name in sample.labels}
    assert labels == {"model_version", "confidence", "le"}


def test_answers_of_all_workers_are_counted_but_not_explanations_and_rejected_requests(server: Server) -> None:
    before = samples(server)
    bodies = sample_bodies()[:20]
    assert send(f"{server.url}/explain", bodies[0]).status == 200
    assert send(f"{server.url}/predict", {"chat_id": 1}).status == 400
    answered = [side for body in bodies for side in send(f"{server.url}/predict", body).json["participants"]]
    grown = added(server, before, len(answered))
    for name in CONFIDENCES:
        assert grown[f"turing_test_answers_total {name}"] == sum(side["confidence"] == name for side in answered)
    probabilities = [side["is_bot_probability"] for side in answered]
    assert grown["turing_test_bot_probability_ratio_sum"] == pytest.approx(sum(probabilities))
    assert grown["turing_test_chat_words_count"] == len(bodies)


def chat_of(text: str, messages: int) -> dict[str, Any]:
    said = [{"message_id": at, "text": text, "participant_id": at % 2} for at in range(messages)]
    return {"chat_id": "counted", "messages": said}


@pytest.mark.parametrize(
    ("path", "body", "chats", "words"),
    [
        ("predict", chat_of("one two three", 4), 1, 12),
        ("predict_batch", {"chats": [chat_of("one two three", 4)] * 7}, 7, 7 * 12),
        ("predict", chat_of("word " * 1_000, LARGE // 5_000 + 1), 1, 1_000 * (LARGE // 5_000 + 1)),
        ("predict", {"text": "hi", "dialog_id": "counted", "id": "1", "participant_index": 0}, 1, 1),
    ],
    ids=["a chat", "a batch", "a large chat", "a message of a dialog"],
)
def test_each_chat_is_counted_once_with_its_words(
    server: Server, path: str, body: dict[str, Any], chats: int, words: int
) -> None:
    before = samples(server)
    assert send(f"{server.url}/{path}", body).status == 200
    grown = added(server, before, 1 if "text" in body else 2 * chats)
    assert grown["turing_test_chat_words_count"] == grown["turing_test_queue_wait_seconds_count"] == chats
    assert grown["turing_test_chat_words_sum"] == words
    assert grown["turing_test_chat_words_bucket 10.0"] == (1 if words == 1 else 0)


def test_workers_that_are_killed_leave_their_answers_and_nothing_in_the_queue(server: Server) -> None:
    """Explanations of long chats take seconds, in threads of their own. Successors count the dialogs in the store."""
    for number in range(6):
        message = {"text": "hi", "dialog_id": f"d{number % 3}", "id": f"d-{number}", "participant_index": 0}
        assert send(f"{server.url}/predict", message).status == 200
    texts = [" ".join(f"word{n}x{m}" for m in range(40)) for n in range(1_000)]
    messages = [{"message_id": n, "text": text, "participant_id": n % 20} for n, text in enumerate(texts)]
    with ThreadPoolExecutor(4) as clients:
        for _ in range(4):
            clients.submit(send, f"{server.url}/explain", {"chat_id": 1, "messages": messages})
        wait_until(lambda: samples(server)["turing_test_queue_chats"] >= 2)
        before = samples(server)
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
    wait_until(lambda: (found := samples(server))["turing_test_queue_chats"] == 0 and found["turing_test_dialogs"] >= 3)
    assert answers(samples(server)) == answers(before)


def test_many_observations_at_once_are_those_one_by_one() -> None:
    """The one place that relies on private parts of prometheus_client."""
    at_once, one_by_one = (
        BulkHistogram("test", "test", ["a"], buckets=PROBABILITIES, registry=CollectorRegistry()).labels("b")
        for _ in range(2)
    )
    values = [*np.random.default_rng(1).random(200), *PROBABILITIES, 0.0, 1.5]
    at_once.observe_all(values)
    for value in values:
        one_by_one.observe(value)
    (got,), (expected,) = at_once.collect(), one_by_one.collect()
    assert [s.value for s in got.samples if s.name != "test_created"] == pytest.approx(
        [s.value for s in expected.samples if s.name != "test_created"]
    )
