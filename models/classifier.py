"""The classifier: from chats to probabilities.

How a chat is scored (`Classifier.assess`):

1. `models/features.py` splits the chat into its participants' sides and turns each side into numbers.
2. Linear models over hashed n-grams score the words of each side (`models/ngrams.py`). `models/signals.py` puts these
   scores and the style, of the side and of the other one, into one row of named `SIGNALS` for each participant.
3. Two experts score each row, in log odds.
   - The home expert knows the game it was trained on: boosted and randomised trees for each of three `SITUATIONS`: a
     running dialog, in which the participant who is asked about always has the last word; a complete chat in which the
     participants strictly take turns; and one in which somebody writes twice in a row.
   - The elsewhere expert, randomised trees, was fitted only on signals that point the same way in every game.
4. The gate decides for each chat how much the home expert has to say, from the alphabet, the number of messages and the
   turn-taking. The scores are averaged with that share (`mix`).
5. `to_probabilities` turns the scores of a chat's participants into probabilities: it scores the participants together,
   moves the answer towards the base rate when the chat has few words, and bounds it as long as the chat has few
   messages.

Training fits all of it with scikit-learn. The artifact holds plain arrays (`models/weights.py`), and they are scored
with NumPy alone, so loading an artifact runs no code from it and serving starts without scikit-learn.
`tests/test_train.py` checks that both give the same numbers.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .chat import Chat, Confidence, Participant, Prediction, RunningDialog
from .features import Floats, Ints, Side, read_sides
from .ngrams import Ngrams
from .signals import GATE, combine, describe, mean_of_others, situations
from .trees import Forest, Trees
from .weights import SHIPPED, HomeExpert, Weights, read_artifact

# Chosen by cross-validation, see the model card. Three numbers are those of a running dialog, strict and free
# turn-taking (`SITUATIONS`).
BOLDER = 1.65  # factor of the elsewhere expert's log odds
TEMPER = (0.9, 1.02, 0.94)  # factor of the score
LIFT = 0.2  # log odds added to each score: two suspects, scored together, would lower each other's odds too much
FEW_WORDS = (1, 2, 2)  # a chat of so many words keeps half of what its score says beyond the base rate
STEEPNESS = 4  # the power of the number of words in that share: with twice as many words, 16/17 are kept
FEW_MESSAGES, MOST_LIKELY = 2, 0.915  # after so few messages no probability, of bot or human, passes this
BOOSTED = (0.6, 0.3, 0.54)  # share of the boosted trees in the home expert's score
CLIPPED = 0.01  # randomised trees' probabilities stay this far from 0 and 1
CERTAIN = 30  # log odds, at most; above 36 a probability would be rounded to 1

# Explanations, metrics and the report on drift call a chat unlike those of the training game if the home expert's share
# in its score is smaller than this.
UNLIKE = 0.5

# What `confidence` means: the least probability of the likelier answer, bot or human. The model card shows how often
# each is right.
CONFIDENCE: Mapping[Confidence, float] = {"high": 0.92, "medium": 0.7, "low": 0.0}


@dataclass(frozen=True)
class Assessment:
    """Everything that is known of a list of chats, one row for each participant, chats one after the other.

    `sides`: the participants of each chat. `signals`: (rows, len(SIGNALS)). All others are (rows,): `home`, the home
    expert's share in the score, within `HOME_SHARE` (the larger, the more the chat is like those of the training game);
    `situation`, the number of the chat's situation in `SITUATIONS`; `score`, the log odds of a participant looked at
    alone; `words`, how many words of the chat count (`describe`); `probabilities`.
    """

    sides: list[list[Side]]
    signals: Floats
    home: Floats
    situation: Ints
    score: Floats
    words: Floats
    probabilities: Floats

    def home_of_chats(self) -> list[float]:
        """Return the home expert's share in the score of each chat."""
        home = self.home.tolist()
        return [home[row] for row in accumulate(map(len, self.sides[:-1]), initial=0)]


def log_odds(probability: Any) -> Any:
    """Return the log odds of a probability or an array of them."""
    return np.log(probability) - np.log1p(-probability)


def mix(boosted: Floats, randomised: Floats, elsewhere: Floats, home: Floats, boosted_share: float | Floats) -> Floats:
    """Return the average of both experts' scores, in log odds; `home` is the share of the home expert.

    The home expert averages the log odds of its boosted trees, which have the `boosted_share`, and those of the
    probability that its randomised trees give. The elsewhere expert gives a probability as well; an average of trees is
    more cautious than it needs to be, which `BOLDER` undoes.
    """
    of_trees, said_elsewhere = log_odds(np.minimum(np.maximum([randomised, elsewhere], CLIPPED), 1 - CLIPPED))
    at_home = boosted_share * boosted + (1 - boosted_share) * of_trees
    return np.asarray(home * at_home + (1 - home) * BOLDER * said_elsewhere)


class _Experts:
    """Scores rows of signals with both experts, in one situation."""

    def __init__(self, home_expert: HomeExpert, elsewhere: Trees, boosted_share: float) -> None:
        self._boosted_share = boosted_share
        self._boosted, self._start = Forest(home_expert.boosted), float(home_expert.start)
        self._randomised = Forest(home_expert.randomised, elsewhere)
        sizes = len(home_expert.randomised.feature), len(elsewhere.feature)
        self._averages = np.repeat(np.eye(2) / sizes, sizes, axis=1).T  # takes the mean of each one's trees

    def score(self, signals: NDArray[np.float32], home: Floats) -> Floats:
        """Return log odds, (rows,); `home` is the share of the home expert."""
        boosted = self._boosted.leaves(signals).sum(axis=1, dtype=np.float64) + self._start
        leaves = self._randomised.leaves(signals)
        randomised, elsewhere = (leaves @ self._averages).T
        return mix(boosted, randomised, elsewhere, home, self._boosted_share)


_FEW = np.array(FEW_WORDS) ** STEEPNESS
_TEMPER = np.array(TEMPER)


def to_probabilities(
    score: Floats, sizes: Ints, gate_inputs: Floats, words: Floats, situation: Ints, base: float
) -> Floats:
    """Turn scores, (sides,), into probabilities, (sides,).

    `sizes` is the number of sides of each chat. `gate_inputs` and `words` are what `describe` returns, and `situation`
    is what `situations` returns: each has one entry per chat.

    A score is first scaled and raised (`TEMPER`, `LIFT`). At most one participant of a chat of two is a bot, as in
    the training data: a softmax over "nobody" (log odds 0) and the two. In a chat of more, each participant is compared
    with the average of the others. The log odds then move towards those of the base rate, the further, the fewer words
    of the chat count. After one or two messages they are bounded: a certain answer would be right too rarely then.
    """
    lifted = np.minimum(_TEMPER[situation].repeat(sizes) * score + LIFT, CERTAIN)
    odds = np.exp(lifted)
    others = np.maximum(mean_of_others(odds, sizes), 0)  # rounding may leave less than 0
    many = words**STEEPNESS
    kept = (many / (many + _FEW[situation])).repeat(sizes)
    base_log_odds = log_odds(base)
    few_messages = gate_inputs[:, GATE.index("messages")] < np.log1p(FEW_MESSAGES + 0.5)
    most = np.where(few_messages, log_odds(MOST_LIKELY), np.inf).repeat(sizes)
    moved = base_log_odds + kept * (lifted - np.log1p(others) - base_log_odds)
    return np.asarray(1 / (1 + np.exp(-np.minimum(np.maximum(moved, -most), most))))


def to_participant(side: Side, probability: float) -> Participant:
    """Return the answer for one participant."""
    return Participant.model_construct(
        participant_id=side.participant_id,
        is_bot_probability=probability,
        confidence=confidence_of(probability),
    )


def confidence_of(probability: float) -> Confidence:
    """Return how sure a probability is."""
    likelier = max(probability, 1 - probability)
    return next(name for name, least in CONFIDENCE.items() if likelier >= least)


class Classifier:
    """Scores chats: each participant's probability of being a bot."""

    def __init__(self, weights: Weights, version: str) -> None:
        self.version = version
        self.weights = weights
        of_situations = (weights.running, weights.strict, weights.free)  # in the order of `SITUATIONS`
        self._experts = [_Experts(expert, weights.elsewhere, BOOSTED[at]) for at, expert in enumerate(of_situations)]
        self.ngrams = Ngrams(weights.linear, weights.idf)

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> Self:
        """Load the artifact of a model folder; raises `ModelError` as `read_artifact` does."""
        return cls(*read_artifact(folder))

    def for_another_thread(self) -> Self:
        """Return the same classifier with a cache of its own; the weights and trees are shared."""
        twin = copy(self)
        twin.ngrams = self.ngrams.for_another_thread()
        return twin

    def predict(self, chats: Sequence[Chat]) -> list[Prediction]:
        """Score complete chats and running dialogs, in any mixture.

        Returns one prediction for each, in order, with the participants in the order of their first message.
        """
        return self.to_predictions(chats, self.assess(chats)) if chats else []

    def to_predictions(self, chats: Sequence[Chat], assessment: Assessment) -> list[Prediction]:
        """Return the predictions for chats that were assessed."""
        probabilities = iter(assessment.probabilities.tolist())
        return [
            Prediction.model_construct(
                chat_id=chat.chat_id,
                participants=[to_participant(side, next(probabilities)) for side in sides],
                model_version=self.version,
            )
            for chat, sides in zip(chats, assessment.sides, strict=True)
        ]

    def assess(self, chats: Sequence[Chat]) -> Assessment:
        """Assess one or more chats."""
        sides_of_chats = [read_sides(chat) for chat in chats]
        sides = [side for of_chat in sides_of_chats for side in of_chat]
        sizes = np.array([len(of_chat) for of_chat in sides_of_chats])
        sums, talk = self.ngrams.sums(sides), np.array([side.talk for side in sides])
        signals = combine(sums, talk, sizes)
        gate_inputs, words = describe(sums, talk, sizes)
        running = np.array([isinstance(chat, RunningDialog) for chat in chats])
        home = self.weights.gate.share(gate_inputs).repeat(sizes)
        situation_of_chats = situations(gate_inputs, running)
        situation = situation_of_chats.repeat(sizes)
        score = self.score(signals, home, situation)
        probabilities = to_probabilities(score, sizes, gate_inputs, words, situation_of_chats, float(self.weights.base))
        return Assessment(
            sides=sides_of_chats,
            signals=signals,
            home=home,
            situation=situation,
            score=score,
            words=words.repeat(sizes),
            probabilities=probabilities,
        )

    def score(self, signals: Floats, home: Floats, situation: Ints) -> Floats:
        """Return each row's score, (rows,), in log odds; the arguments are columns of `Assessment`."""
        values = signals.astype(np.float32)  # as in training
        present: set[int] = set(situation.tolist())
        if len(present) == 1:
            return self._experts[present.pop()].score(values, home)
        score: Floats = np.empty(len(values))
        for number in present:
            chosen = situation == number
            score[chosen] = self._experts[number].score(values[chosen], home[chosen])
        return score
