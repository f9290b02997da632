import numpy as np
import pytest

from models.classifier import Classifier
from models.explain import SHOWN_SIGNALS, SHOWN_SPANS, explain, spans, weigh
from models.signals import LINEAR, SIGNALS
from models.weights import HOME_SHARE
from tests.conftest import CURL_CHAT, Server, make_chat, send

CHAT = make_chat((0, "  Hello, my  friend!"), (1, "hi"), (0, ""), (2, "who are you? 😀"), (1, "I am a person"))


def test_the_weights_add_up(classifier: Classifier) -> None:
    for side in explain(classifier, CHAT).participants:
        assert side.base + sum(signal.weight for signal in side.signals) + side.rest == pytest.approx(side.score)
        assert len(side.signals) == SHOWN_SIGNALS
        assert len(side.spans) <= SHOWN_SPANS


def test_the_answer_is_that_of_predict(classifier: Classifier) -> None:
    (prediction,) = classifier.predict([CHAT])
    answers = [(side.participant_id, side.is_bot_probability) for side in prediction.participants]
    explained = explain(classifier, CHAT).participants
    assert [(side.participant_id, side.is_bot_probability) for side in explained] == answers


@pytest.mark.parametrize("at_home", [True, False])
def test_the_spans_add_up_to_the_linear_models_signals(classifier: Classifier, at_home: bool) -> None:
    speaker, counterpart = LINEAR[:2] if at_home else LINEAR[2:]
    signals = classifier.assess([CHAT]).signals
    for found, row in zip(spans(classifier, CHAT, shown=None, at_home=at_home), signals, strict=True):
        for name in (speaker, f"the other one: {counterpart}"):
            got = sum(span.weight for span in found if span.signal == name)
            assert got == pytest.approx(row[SIGNALS.index(name)])


def test_a_span_holds_the_words_it_weighs(classifier: Classifier) -> None:
    texts = {message.message_id: message.text for message in CHAT.messages}
    cut = {texts[span.message_id][span.start : span.end] for span in spans(classifier, CHAT, shown=None)[0]}
    assert {"Hello,", "friend!", "my  friend!", "who are", "😀"} <= cut


def test_a_signal_that_is_typical_weighs_nothing(classifier: Classifier) -> None:
    signals = classifier.weights.typical.copy()
    signals[SIGNALS.index("opens the chat")] += 1
    _, weights, _ = weigh(classifier, signals, np.array([0.9]), np.array([1]))
    assert np.flatnonzero(np.abs(weights) > 1e-12).tolist() in ([SIGNALS.index("opens the chat")], [])


def test_the_share_of_the_home_expert_is_named(classifier: Classifier) -> None:
    explanation = explain(classifier, CHAT)
    assert explanation.like_training_chats == classifier.assess([CHAT]).home[0]
    assert HOME_SHARE[0] <= explanation.like_training_chats <= HOME_SHARE[1]


def test_the_score_is_the_mixture_of_both_experts(classifier: Classifier) -> None:
    assessment = classifier.assess([CHAT])
    at_home = classifier.score(assessment.signals, np.ones(3), assessment.situation)
    elsewhere = classifier.score(assessment.signals, np.zeros(3), assessment.situation)
    assert (np.abs(at_home - elsewhere) > 0.01).all()
    share = explain(classifier, CHAT).like_training_chats
    for side, home, other in zip(explain(classifier, CHAT).participants, at_home, elsewhere, strict=True):
        assert side.score == pytest.approx(share * home + (1 - share) * other)


def test_it_is_served(server: Server, classifier: Classifier) -> None:
    answer = send(f"{server.url}/explain", CURL_CHAT)
    assert answer.status == 200
    assert answer.json["participants"][0]["signals"][0]["name"] in SIGNALS
    assert answer.json["model_version"] == classifier.version
    assert send(f"{server.url}/explain", {"chat_id": 1, "messages": []}).status == 400


def test_the_spans_shown_are_the_heaviest(classifier: Classifier) -> None:
    crowd = make_chat(*((n % 5, f"hello number {n} {'!' * n} what about the money") for n in range(40)))
    for shown, every in zip(spans(classifier, crowd, 3), spans(classifier, crowd, None), strict=True):
        assert [span.weight for span in shown] == [span.weight for span in every[:3]]
        assert len(every) == sum(2 * len(message.text.split()) - 1 for message in crowd.messages)
