"""What moved an answer: named signals for the whole score, and the words behind the linear model's part of it.

The score is not additive in its signals (trees and networks), so a signal's weight is approximated: the mean of what
the score loses when the signal takes its typical value, and of what a typical participant's score gains when the signal
takes its actual value. That is the average of a feature's first and last place in the order of a Shapley value
(Lundberg and Lee 2017, arXiv:1705.07874). What the listed weights do not cover is named as `rest`, so that they add up.
The linear model over n-grams is additive: its spans are exact.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.chat import Chat, ExplainedParticipant, Explanation, Identifier, Message, Signal, Span
from models.classifier import LINEAR, SIGNALS, Classifier, Floats
from models.features import BOUNDARY, pair_ngrams, read_sides, word_hash, word_ngrams

SHOWN_SIGNALS = 10
SHOWN_SPANS = 10
METHOD = (
    "base + signals + rest = score, in log odds. A signal's weight is approximate: the mean of what the score loses"
    " when the signal gets its typical value, and of what a typical score gains when it gets this one. The weights of"
    " spans are exact shares in the value of a signal that a linear model makes of the words."
)


def explain(classifier: Classifier, chat: Chat) -> Explanation:
    """Answer as `Classifier.predict` does, and say what moved each participant's score."""
    sides = read_sides(chat)
    signals, _ = classifier.signals(sides, np.array([len(sides)]))
    (prediction,) = classifier.predict([chat])
    participants = []
    for row, answer in zip(signals, prediction.participants, strict=True):
        base, weights, score = weigh(classifier, row)
        strongest = np.argsort(-np.abs(weights), kind="stable")[:SHOWN_SIGNALS]
        participants.append(
            ExplainedParticipant(
                **answer.model_dump(),
                base=base,
                signals=[Signal(name=SIGNALS[at], weight=weights[at]) for at in strongest],
                rest=score - base - float(weights[strongest].sum()),
                score=score,
                spans=sorted(spans(classifier, chat, answer.participant_id), key=lambda span: -abs(span.weight))[
                    :SHOWN_SPANS
                ],
            )
        )
    return Explanation(
        chat_id=chat.chat_id, participants=participants, method=METHOD, model_version=prediction.model_version
    )


def weigh(classifier: Classifier, signals: Floats) -> tuple[float, Floats, float]:
    """Return the typical score, each signal's approximate weight, (len(SIGNALS),), and the score, all in log odds."""
    typical = classifier.weights.networks.center
    without = np.where(np.eye(len(signals), dtype=bool), typical, signals)
    alone = np.where(np.eye(len(signals), dtype=bool), signals, typical)
    scores = classifier.score(np.concatenate([[typical], [signals], without, alone]))
    base, score, lost, gained = scores[0], scores[1], *np.split(scores[2:], 2)
    return float(base), ((score - lost) + (gained - base)) / 2, float(score)


def spans(classifier: Classifier, chat: Chat, participant: Identifier) -> Iterator[Span]:
    """Yield the words of all messages with their share in the linear model's signals about a participant.

    The participant's own words are the signal "says what bots say", those of the others "says what is said to bots".
    The weights of a signal's spans add up to its value.
    """
    speakers = dict.fromkeys(message.participant_id for message in chat.messages)
    for speaker in speakers:
        messages = [message for message in chat.messages if message.participant_id == speaker]
        own = speaker == participant
        weights = classifier.weights.own if own else classifier.weights.others
        name = LINEAR[0] if own else f"the other one: {LINEAR[1]}"
        found = [part for message in messages for part in _parts(message)]
        squares = sum(float((classifier.weights.idf[grams].astype(np.float64) ** 2).sum()) for *_, grams in found)
        share = 1 / np.sqrt(squares + 1) / (1 if own else len(speakers) - 1)
        for message_id, start, end, grams in found:
            weight = float(weights[grams].sum(dtype=np.float64)) * share
            yield Span(message_id=message_id, start=start, end=end, signal=name, weight=weight)


def _parts(message: Message) -> Iterator[tuple[Identifier, int, int, NDArray[np.int64]]]:
    """Yield the words and pairs of a message with their n-grams; a pair with a boundary belongs to its word."""
    words = list(re.finditer(r"\S+", message.text))
    for at, word in enumerate(words):
        edges = [_pair(BOUNDARY, word[0])] * (at == 0) + [_pair(word[0], BOUNDARY)] * (at == len(words) - 1)
        yield message.message_id, word.start(), word.end(), np.concatenate([word_ngrams(word[0]), *edges])
    for first, second in pairwise(words):
        yield message.message_id, first.start(), second.end(), _pair(first[0], second[0])


def _pair(*words: str) -> NDArray[np.int64]:
    return pair_ngrams(np.array([word_hash(word) for word in words], np.uint64))[:1]
