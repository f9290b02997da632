import json
import re

import numpy as np
import pytest

from models.chat import EXAMPLE_SIGNAL, Chat, Participant, Signal
from models.classifier import Classifier
from models.explain import SHOWN_SIGNALS, SHOWN_SPANS, explain, spans, weigh
from models.signals import LINEAR, SIGNALS
from models.words import words_for
from tests.conftest import CURL_CHAT, ROOT, Server, make_chat, send

CHAT = make_chat((0, "  Hello, my  friend!"), (1, "hi"), (0, ""), (2, "who are you? 😀"), (1, "I am a person"))
# A byte order mark, a decomposed letter, a soft hyphen, unseen marks alone, words without spaces, and emoji sequences.
MARKED = make_chat(
    (0, "\ufeffHello cafe\u0301 won\u00adderful"),
    (1, "\u200b \u200e"),
    (1, "你好吗 か\u3099き 👨\u200d👩\u200d👧 ok\u200f"),
    (0, "ไทย"),
)


def test_the_weights_add_up_to_the_score_of_the_participant_alone(classifier: Classifier) -> None:
    participants = explain(classifier, CHAT).participants
    assert [side.score for side in participants] == pytest.approx(classifier.assess([CHAT]).score)
    for side in participants:
        assert side.base + sum(signal.weight for signal in side.signals) + side.rest == pytest.approx(side.score)
        assert len(side.signals) == SHOWN_SIGNALS
        assert len(side.spans) <= SHOWN_SPANS


def test_the_answer_is_that_of_predict(classifier: Classifier) -> None:
    (prediction,) = classifier.predict([CHAT])
    explained = explain(classifier, CHAT).participants
    assert [Participant(**vars(side)) for side in explained] == prediction.participants


@pytest.mark.parametrize("chat", [CHAT, MARKED])
def test_the_spans_add_up_to_the_linear_models_signals(classifier: Classifier, chat: Chat) -> None:
    speaker, counterpart = LINEAR
    signals = classifier.assess([chat]).signals
    for found, row in zip(spans(classifier, chat, shown=1_000), signals, strict=True):
        for name in (speaker, f"the other one: {counterpart}"):
            got = sum(span.weight for span in found if span.signal == name)
            assert got == pytest.approx(row[SIGNALS.index(name)])


@pytest.mark.parametrize(
    ("chat", "words"),
    [
        (CHAT, {"Hello,", "friend!", "my  friend!", "who are", "😀"}),
        (MARKED, {"\ufeffHello", "cafe\u0301", "won\u00adderful", "你好", "👨\u200d👩\u200d👧", "ok\u200f"}),
    ],
)
def test_a_span_is_a_place_in_the_text_as_it_was_sent(classifier: Classifier, chat: Chat, words: set[str]) -> None:
    texts = {message.message_id: message.text for message in chat.messages}
    assert words <= {texts[span.message_id][span.start : span.end] for span in spans(classifier, chat, shown=1_000)[0]}


def test_a_signal_that_is_typical_weighs_nothing(classifier: Classifier) -> None:
    signals = classifier.weights.typical.astype(float)
    signals[SIGNALS.index("opens the chat")] += 1
    _, weights, _ = weigh(classifier, signals)
    assert np.flatnonzero(np.abs(weights) > 1e-12).tolist() in ([SIGNALS.index("opens the chat")], [])


def test_the_documented_signal_is_one() -> None:
    (printed,) = re.findall(r'^{"name".*}$', (ROOT / "docs/reference.md").read_text(), re.MULTILINE)
    assert json.loads(printed) == EXAMPLE_SIGNAL == Signal.model_validate(EXAMPLE_SIGNAL).model_dump()
    assert EXAMPLE_SIGNAL["meaning"] == words_for(str(EXAMPLE_SIGNAL["name"])).model_dump()


def test_a_signal_is_compared_with_what_is_usual(classifier: Classifier) -> None:
    differences = classifier.assess([CHAT]).signals - classifier.weights.typical
    for side, difference in zip(explain(classifier, CHAT).participants, differences, strict=True):
        told = {signal.name: signal.than_usual for signal in side.signals}
        assert told == {name: "more" if difference[SIGNALS.index(name)] > 0 else "less" for name in told}
        assert len(set(told.values())) == 2


def test_the_expected_share_of_bots_is_named_and_leaves_the_score_alone(classifier: Classifier) -> None:
    few = Classifier(classifier.weights, classifier.version, 0.02)
    usual, rare = explain(classifier, CHAT), explain(few, CHAT)
    assert usual.expected_bot_share == pytest.approx(float(classifier.weights.base))
    assert rare.expected_bot_share == 0.02
    for before, after in zip(usual.participants, rare.participants, strict=True):
        assert after.score == before.score
        assert after.is_bot_probability < before.is_bot_probability


def test_it_is_served(server: Server, classifier: Classifier) -> None:
    answer = send(f"{server.url}/explain", CURL_CHAT)
    assert answer.status == 200
    strongest = answer.json["participants"][0]["signals"][0]
    assert strongest["than_usual"] in ("more", "less")
    assert strongest["meaning"] == words_for(strongest["name"]).model_dump()
    assert answer.json["model_version"] == classifier.version
    assert send(f"{server.url}/explain", {"chat_id": 1, "messages": []}).status == 400


def test_the_spans_shown_are_the_heaviest(classifier: Classifier) -> None:
    crowd = make_chat(*((n % 5, f"hello number {n} {'!' * n} what about the money") for n in range(40)))
    for shown, every in zip(spans(classifier, crowd, 3), spans(classifier, crowd, 1_000), strict=True):
        assert [span.weight for span in shown] == [span.weight for span in every[:3]]
        assert len(every) == sum(2 * len(message.text.split()) - 1 for message in crowd.messages)
