"""How the shipped classifier behaves: what must not matter, and what must."""

import json
from typing import Any

import pytest

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import CURL_CHAT, SAMPLE, make_chat, sample_bodies
from train.data import read_editions


def probabilities(classifier: Classifier, chat: Chat) -> list[float]:
    return [side.is_bot_probability for side in classifier.predict([chat])[0].participants]


@pytest.mark.parametrize("body", sample_bodies()[::8], ids=lambda body: body["chat_id"])
def test_identifiers_and_the_order_of_fields_change_nothing(classifier: Classifier, body: dict[str, Any]) -> None:
    names = {0: "z", 1: -5}
    renamed = {
        "messages": [
            {"participant_id": names[message["participant_id"]], "text": message["text"], "message_id": f"m{-at}"}
            for at, message in enumerate(body["messages"])
        ],
        "chat_id": "other",
        "seen": True,
    }
    expected = probabilities(classifier, Chat.model_validate(body))
    assert probabilities(classifier, Chat.model_validate_json(json.dumps(renamed))) == expected


@pytest.mark.parametrize(
    "phrase", ["Как искусственный интеллект, я не имею чувств, но готов помочь.", "Чем я могу помочь?"]
)
def test_an_obvious_bot_phrase_does_not_lower_the_bots_probability(classifier: Classifier, phrase: str) -> None:
    (edition,) = read_editions([SAMPLE])
    bots = 0
    for chat, labels in zip(edition.chats, edition.labels, strict=True):
        participants = list(dict.fromkeys(message.participant_id for message in chat.messages))
        for at, participant in enumerate(participants):
            if labels[at]:
                bots += 1
                longer = chat.model_copy(deep=True)
                last = [message for message in longer.messages if message.participant_id == participant][-1]
                last.text += f" {phrase}"
                assert probabilities(classifier, longer)[at] >= probabilities(classifier, chat)[at]
    assert bots == 20


@pytest.mark.parametrize("word", ["hi", "привет", "Hello!", "你好", "", "🤖"])
def test_one_word_is_answered_near_the_base_rate(classifier: Classifier, word: str) -> None:
    (probability,) = probabilities(classifier, make_chat((0, word)))
    assert probability == pytest.approx(float(classifier.weights.base), abs=0.12)


def test_an_unknown_script_is_answered_with_the_base_rate(classifier: Classifier) -> None:
    chat = make_chat(*((at % 2, "გამარჯობა როგორ ხარ დღეს") for at in range(12)))
    assert probabilities(classifier, chat) == pytest.approx([float(classifier.weights.base)] * 2, abs=0.02)


def test_the_further_a_chat_is_the_closer_to_the_base_rate(classifier: Classifier) -> None:
    """The same bot, with more and more of the words in a script that was never seen."""
    words = ["как", "искусственный", "интеллект", "я", "не", "имею", "чувств", "но", "готов", "помочь", "вам"]
    gaps = []
    for strange in (0, 4, 8, len(words)):
        text = " ".join([*["აბგდ"] * strange, *words[strange:]])
        chat = make_chat(*((at % 2, text if at % 2 else words[0]) for at in range(10)))
        gaps.append(abs(probabilities(classifier, chat)[1] - float(classifier.weights.base)))
    assert gaps[-1] < gaps[0] / 4


def test_confidence_follows_the_probability(classifier: Classifier) -> None:
    said: dict[str, list[float]] = {}
    for body in [*sample_bodies(), CURL_CHAT]:
        for side in classifier.predict([Chat.model_validate(body)])[0].participants:
            said.setdefault(side.confidence, []).append(max(side.is_bot_probability, 1 - side.is_bot_probability))
    assert set(said) == {"high", "medium", "low"}
    assert min(said["high"]) >= 0.9 > max(said["medium"])
    assert min(said["medium"]) >= 0.7 > max(said["low"])


def test_two_participants_are_never_both_taken_for_bots(classifier: Classifier) -> None:
    for body in sample_bodies():
        assert sum(probabilities(classifier, Chat.model_validate(body))) < 1.1


@pytest.mark.parametrize("text", ["", "hello there"])
def test_two_thousand_messages(classifier: Classifier, text: str) -> None:
    values = probabilities(classifier, make_chat(*((at % 2, text) for at in range(2_000))))
    assert all(0 < value < 1 for value in values)
