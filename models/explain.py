"""Explain an answer: named signals for the whole score, and the words behind the linear model's part of it.

The score is not additive in its signals, because it comes from trees. A signal's weight (`METHOD`) is therefore
approximate: it averages the first and the last place of a feature in the order of a Shapley value (Lundberg and Lee
2017, arXiv:1705.07874). The linear model over n-grams is additive: the weights of spans are exact.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from .chat import Chat, ExplainedParticipant, Explanation, Message, Signal, Span
from .classifier import Classifier
from .features import Floats, pair_ngrams
from .ngrams import Ngrams
from .signals import LINEAR, OF_NGRAMS, OTHER, SIGNALS
from .texts import find_words
from .words import words_for

SHOWN_SIGNALS = 10
SHOWN_SPANS = 10
METHOD = (
    "base + signals + rest = score, in log odds. The probability follows from the score after the participants of the"
    " chat are compared, which assumes that at most one of two is a bot, and the expected share of bots is applied. A"
    " signal's weight is approximate: the mean of what the score loses when the signal gets its typical value, and of"
    " what a typical score gains when it gets this one. The weights of spans are exact shares in the value of a signal"
    " that a linear model makes of the words."
)


def explain(classifier: Classifier, chat: Chat, is_wanted: Callable[[], bool] = lambda: True) -> Explanation:
    """Answer as `Classifier.predict` does, and say what moved each participant's score.

    Once `is_wanted` returns False, the rest of the participants is left out: nobody waits for the explanation any more.
    """
    assessment = classifier.assess([chat])
    (prediction,) = classifier.to_predictions([chat], assessment)
    participants = []
    for row, (answer, words) in enumerate(zip(prediction.participants, spans(classifier, chat), strict=True)):
        if not is_wanted():
            break
        base, weights, score = weigh(classifier, assessment.signals[row])
        strongest = np.argsort(-np.abs(weights), kind="stable")[:SHOWN_SIGNALS]
        participants.append(
            ExplainedParticipant(
                **answer.model_dump(),
                base=base,
                signals=[
                    Signal(
                        name=SIGNALS[at],
                        meaning=words_for(SIGNALS[at]),
                        than_usual="more" if assessment.signals[row, at] > classifier.weights.typical[at] else "less",
                        weight=weights[at],
                    )
                    for at in strongest
                ],
                rest=score - base - float(weights[strongest].sum()),
                score=score,
                spans=words,
            )
        )
    return Explanation(
        chat_id=chat.chat_id,
        participants=participants,
        expected_bot_share=classifier.expected_bot_share,
        method=METHOD,
        model_version=classifier.version,
    )


def weigh(classifier: Classifier, signals: Floats) -> tuple[float, Floats, float]:
    """Return the typical score, each signal's approximate weight, (len(SIGNALS),), and the score, all in log odds.

    `signals` (len(SIGNALS),) is one row of an `Assessment`.
    """
    typical = classifier.weights.typical
    without = np.where(np.eye(len(signals), dtype=bool), typical, signals)
    alone = np.where(np.eye(len(signals), dtype=bool), signals, typical)
    scores = classifier.score(np.concatenate([[typical], [signals], without, alone]))
    base, score, lost, gained = scores[0], scores[1], *np.split(scores[2:], 2)
    return float(base), ((score - lost) + (gained - base)) / 2, float(score)


def spans(classifier: Classifier, chat: Chat, shown: int = SHOWN_SPANS) -> list[list[Span]]:
    """Return, for each participant, the words in the chat that weigh most in the linear model's signals about them.

    The participant's own words belong to the signal "says what bots say", those of the others to "says what is said to
    bots". The weights of all of a signal's spans add up to its value; `shown` is the number of spans to return, the
    heaviest first.
    """
    speakers = {who: number for number, who in enumerate(dict.fromkeys(m.participant_id for m in chat.messages))}
    places, sums = _parts(chat.messages, classifier.ngrams)
    speaker = np.array([speakers[message.participant_id] for message, _, _ in places], int)
    squares = np.bincount(speaker, sums[:, 2], len(speakers))
    own, others = sums[:, :2].T / np.sqrt(squares + 1)[speaker] / [[1], [max(len(speakers) - 1, 1)]]
    found = []
    for participant in range(len(speakers)):
        is_own = speaker == participant
        weights = np.where(is_own, own, others)
        size = -np.abs(weights)
        heaviest = np.arange(len(size))
        if shown < len(size):  # without sorting all of them
            heaviest = np.flatnonzero(size <= np.partition(size, shown)[shown])
        heaviest = heaviest[np.argsort(size[heaviest], kind="stable")][:shown]
        of_participant = []
        for at in heaviest.tolist():
            message, start, end = places[at]
            signal = LINEAR[0] if is_own[at] else OTHER + LINEAR[1]
            span = Span(message_id=message.message_id, start=start, end=end, signal=signal, weight=float(weights[at]))
            of_participant.append(span)
        found.append(of_participant)
    return found


def _parts(messages: Sequence[Message], ngrams: Ngrams) -> tuple[list[tuple[Message, int, int]], Floats]:
    """Return the words and the pairs of neighbouring words of messages, and what each adds to `OF_NGRAMS`.

    A part is its message, its start and its end in the text as it was sent; what they add is (parts, len(OF_NGRAMS)). A
    pair of a boundary and a word counts towards that word.
    """
    places: list[tuple[Message, int, int]] = []
    sums = [np.zeros((0, len(OF_NGRAMS)))]
    for message in messages:
        words = find_words(message.text)
        if not words:
            continue
        values, hashes = ngrams.look_up([word for _, _, word in words])
        alone = values[:, : len(OF_NGRAMS)]
        pairs = ngrams.weights[pair_ngrams(np.pad(hashes, 1))[:-1]]  # between boundaries, whose hash is 0
        alone[0] += pairs[0]
        alone[-1] += pairs[-1]
        places += [(message, start, end) for start, end, _ in words]
        places += [(message, first[0], second[1]) for first, second in pairwise(words)]
        sums += [alone, pairs[1:-1]]
    return places, np.concatenate(sums)
