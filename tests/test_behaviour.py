"""How the shipped classifier behaves: what must not matter, and what must."""

import json
from itertools import product
from typing import Any

import numpy as np
import pytest

from models.chat import Chat
from models.classifier import Classifier, log_odds
from tests.conftest import CURL_CHAT, make_chat, sample_bodies
from train.copies import STOCK_PHRASES, excerpt

# Means and largest moves of a probability on the sample.
MOVES = {"no last message": (0.15, 0.6), "a message in two parts": (0.12, 0.5), "another opens": (0.12, 0.5)}


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


ENGLISH = [
    (0, "hey, what's up"),
    (1, "not much, you?"),
    (0, "just got home from work, so tired"),
    (1, "same here, long day"),
    (0, "wanna play something later"),
    (1, "maybe yeah"),
]
RUSSIAN = [
    (0, "привет, как дела"),
    (1, "норм, а ты"),
    (0, "только с работы пришла, устала"),
    (1, "понимаю, я тоже"),
    (0, "чем занимаешься вечером"),
    (1, "да ничем, кино может"),
]
# None of them is a phrase that the training command puts into chats.
ENGLISH_PHRASES = [
    "Hello! How can I help you today?",
    "As an AI language model, I don't have feelings.",
    "Is there anything else I can assist you with?",
    "I'm sorry, but I can't help with that.",
]
RUSSIAN_PHRASES = [
    "Здравствуйте! Чем я могу вам помочь?",
    "Как искусственный интеллект, я не имею чувств, но готов помочь.",
    "Могу ли я ещё чем-нибудь быть вам полезен?",
    "К сожалению, я не могу ответить на этот вопрос.",
]


# The one dialog of 48 in which the shipped model answers a phrase with a lower probability: 0.63 in place of 0.69. A
# later model must not add another.
LOWERED = {(RUSSIAN_PHRASES[0], 3)}


@pytest.mark.parametrize(
    ("turns", "phrase"), [*product([ENGLISH], ENGLISH_PHRASES), *product([RUSSIAN], RUSSIAN_PHRASES)]
)
def test_a_stock_phrase_raises_the_probability_of_its_sender_in_any_position(
    classifier: Classifier, turns: list[tuple[int, str]], phrase: str
) -> None:
    assert not any(phrase in known for known in STOCK_PHRASES.values())
    before = probabilities(classifier, make_chat(*turns))
    for at, (sender, text) in enumerate(turns):
        changed = [*turns[:at], (sender, f"{text} {phrase}"), *turns[at + 1 :]]
        assert probabilities(classifier, make_chat(*changed))[sender] > before[sender]
        dialog = excerpt(make_chat(*turns), end=at + 1)
        with_phrase = excerpt(make_chat(*changed), end=at + 1)
        is_raised = probabilities(classifier, with_phrase)[sender] > probabilities(classifier, dialog)[sender]
        assert is_raised or (phrase, at) in LOWERED


def test_who_offers_help_is_no_person_with_high_confidence(classifier: Classifier) -> None:
    (answer,) = classifier.predict([make_chat((0, "Hello! How can I help you today?"), (1, "u r a bot lol"))])
    assert answer.participants[0].confidence != "high"
    assert answer.participants[0].is_bot_probability > 0.15


OTHER_ALPHABETS = [
    ("გამარჯობა როგორ ხარ დღეს", "კარგად, შენ?"),
    ("こんにちは、今日はどうですか？", "元気です。あなたは？"),
    ("你好，今天怎么样？", "很好，谢谢。你呢？"),
    ("مرحبا كيف حالك اليوم", "بخير، وأنت؟"),
]


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    "turns",
    [[(0, "hi"), (1, "hello")], [(0, "Здравствуйте"), (1, "добрый день")], [(who, "hi") for who in range(10)]]
    + [[(at % 2, texts[at % 2]) for at in range(12)] for texts in OTHER_ALPHABETS],
)
def test_greetings_and_other_alphabets_are_never_answered_with_high_confidence(
    classifier: Classifier, turns: list[tuple[int, str]], finished: bool
) -> None:
    (answer,) = classifier.predict([make_chat(*turns).model_copy(update={"finished": finished})])
    assert {side.confidence for side in answer.participants} <= {"medium", "low"}


@pytest.mark.parametrize("change", ["no last message", "a message in two parts", "another opens"])
def test_another_turn_taking_moves_the_probabilities_by_little(classifier: Classifier, change: str) -> None:
    """The mean and the largest move of a probability on the sample, whose bots are easily told from people."""
    moves = []
    for body in sample_bodies():
        chat = Chat.model_validate(body)
        turns = [(message.participant_id, message.text) for message in chat.messages]
        if change == "no last message":
            changed = excerpt(chat, end=-1)
        elif change == "another opens":
            changed = make_chat(turns[1], turns[0], *turns[2:])
        else:
            at = max(range(len(turns)), key=lambda number: len(turns[number][1].split()))
            sender, words = turns[at][0], turns[at][1].split()
            half = (len(words) + 1) // 2
            parts = [(sender, " ".join(words[:half])), (sender, " ".join(words[half:]))]
            changed = make_chat(*turns[:at], *parts, *turns[at + 1 :])
        before, after = (
            {side.participant_id: side.is_bot_probability for side in classifier.predict([asked])[0].participants}
            for asked in (chat, changed)
        )
        moves += [abs(after[participant] - before[participant]) for participant in after]
    mean, largest = MOVES[change]
    assert sum(moves) / len(moves) < mean
    assert max(moves) < largest


@pytest.mark.parametrize("word", ["hi", "привет", "Hello!", "你好", "", "🤖"])
def test_one_word_says_little(classifier: Classifier, word: str) -> None:
    """The odds of a bot stay within a factor of four of those of the base rate."""
    (participant,) = classifier.predict([make_chat((0, word))])[0].participants
    base = classifier.weights.base
    assert abs(log_odds(participant.is_bot_probability) - log_odds(base)) < np.log(4)
    assert participant.confidence != "high"


def test_lengths_tell_something_in_other_alphabets(classifier: Classifier) -> None:
    """A participant who answers a few characters with whole paragraphs is more suspicious, in any alphabet."""
    chat = make_chat(*((at % 2, "とても面白い質問ですね。" * 6 if at % 2 else "うん") for at in range(10)))
    person, bot = probabilities(classifier, chat)
    assert bot > person


def test_confidence_follows_the_probability(classifier: Classifier) -> None:
    rules = classifier.weights.rules
    said: dict[str, list[float]] = {}
    for body in [*sample_bodies(), CURL_CHAT]:
        for side in classifier.predict([Chat.model_validate(body)])[0].participants:
            said.setdefault(side.confidence, []).append(max(side.is_bot_probability, 1 - side.is_bot_probability))
    assert set(said) == {"high", "medium", "low"}
    assert min(said["high"]) >= rules.high
    assert min(said["medium"]) >= rules.medium


def test_one_or_two_messages_are_never_answered_with_high_confidence(classifier: Classifier) -> None:
    chats = [Chat.model_validate(body) for body in sample_bodies()]
    asked: list[Chat] = [excerpt(chat, end=messages) for chat in chats for messages in (1, 2, 3)]
    asked += [chat.model_copy(update={"messages": chat.messages[:2]}) for chat in chats]
    said: dict[bool, set[str]] = {True: set(), False: set()}
    for chat, answer in zip(asked, classifier.predict(asked), strict=True):
        said[len(chat.messages) <= 2] |= {side.confidence for side in answer.participants}
    assert said == {True: {"medium", "low"}, False: {"high", "medium", "low"}}


def test_two_participants_are_never_both_taken_for_bots(classifier: Classifier) -> None:
    for body in sample_bodies():
        assert sum(probabilities(classifier, Chat.model_validate(body))) < 1.1
