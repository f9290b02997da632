import json
import re

import numpy as np
import pytest

from models.chat import EXAMPLE_SIGNAL, Chat, Participant, Signal
from models.classifier import Classifier
from models.explain import SHOWN_SIGNALS, SHOWN_SPANS, explain, spans, weigh
from models.signals import LINEAR, SIGNALS
from models.words import words_for
from tests.conftest import ROOT, make_chat

CHAT = make_chat((0, "  Hello, my  friend!"), (1, "hi"), (0, ""), (2, "who are you? 😀"), (1, "I am a person"))
# A byte order mark, a decomposed letter, a soft hyphen, unseen marks alone, words without spaces, and emoji sequences.
MARKED = make_chat(
    (0, "\ufeffHello cafe\u0301 won\u00adderful"),
    (1, "\u200b \u200e"),
    (1, "你好吗 か\u3099き 👨\u200d👩\u200d👧 ok\u200f"),
    (0, "ไทย"),
)


def test_the_answer_is_that_of_predict_and_the_weights_add_up_to_its_score(classifier: Classifier) -> None:
    (prediction,) = classifier.predict([CHAT])
    assessment = classifier.assess([CHAT])
    explanation = explain(classifier, CHAT)
    participants = explanation.participants
    assert explanation.model_version == prediction.model_version
    assert [Participant(**vars(side)) for side in participants] == prediction.participants
    assert [side.score for side in participants] == pytest.approx(assessment.score)
    differences = assessment.signals - classifier.weights.typical
    for side, difference in zip(participants, differences, strict=True):
        assert side.base + sum(signal.weight for signal in side.signals) + side.rest == pytest.approx(side.score)
        assert len(side.signals) == SHOWN_SIGNALS
        assert len(side.spans) <= SHOWN_SPANS
        told = {signal.name: signal.than_usual for signal in side.signals}
        assert told == {name: "more" if difference[SIGNALS.index(name)] > 0 else "less" for name in told}


@pytest.mark.parametrize(
    ("chat", "words"),
    [
        (CHAT, {"Hello,", "friend!", "my  friend!", "who are", "😀"}),
        (MARKED, {"\ufeffHello", "cafe\u0301", "won\u00adderful", "你好", "👨\u200d👩\u200d👧", "ok\u200f"}),
    ],
)
def test_spans_are_places_in_the_text_as_it_was_sent_and_add_up_to_the_linear_models_signals(
    classifier: Classifier, chat: Chat, words: set[str]
) -> None:
    speaker, counterpart = LINEAR
    texts = {message.message_id: message.text for message in chat.messages}
    signals = classifier.assess([chat]).signals
    every = spans(classifier, chat, shown=1_000)
    assert words <= {texts[span.message_id][span.start : span.end] for span in every[0]}
    for found, row in zip(every, signals, strict=True):
        for name in (speaker, f"the other one: {counterpart}"):
            got = sum(span.weight for span in found if span.signal == name)
            assert got == pytest.approx(row[SIGNALS.index(name)])


def test_a_signal_that_is_typical_weighs_nothing(classifier: Classifier) -> None:
    signals = classifier.weights.typical.astype(float)
    signals[SIGNALS.index("opens the chat")] += 1
    _, weights, _ = weigh(classifier, signals)
    assert np.flatnonzero(np.abs(weights) > 1e-12).tolist() in ([SIGNALS.index("opens the chat")], [])


def test_the_documented_signal_is_one() -> None:
    (printed,) = re.findall(r'^{"name".*}$', (ROOT / "docs/reference.md").read_text(), re.MULTILINE)
    assert json.loads(printed) == EXAMPLE_SIGNAL == Signal.model_validate(EXAMPLE_SIGNAL).model_dump()
    assert EXAMPLE_SIGNAL["meaning"] == words_for(str(EXAMPLE_SIGNAL["name"])).model_dump()


def test_the_expected_share_of_bots_is_named_and_leaves_the_score_alone(classifier: Classifier) -> None:
    few = Classifier(classifier.weights, classifier.version, 0.02)
    usual, rare = explain(classifier, CHAT), explain(few, CHAT)
    assert usual.expected_bot_share == pytest.approx(float(classifier.weights.base))
    assert rare.expected_bot_share == 0.02
    for before, after in zip(usual.participants, rare.participants, strict=True):
        assert after.score == before.score
        assert after.is_bot_probability < before.is_bot_probability


def test_the_spans_shown_are_the_heaviest(classifier: Classifier) -> None:
    crowd = make_chat(*((n % 5, f"hello number {n} {'!' * n} what about the money") for n in range(40)))
    for shown, every in zip(spans(classifier, crowd, 3), spans(classifier, crowd, 1_000), strict=True):
        assert [span.weight for span in shown] == [span.weight for span in every[:3]]
        assert len(every) == sum(2 * len(message.text.split()) - 1 for message in crowd.messages)
