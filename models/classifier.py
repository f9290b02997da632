"""The classifier: from chats to probabilities.

How a chat is scored (`Classifier.assess`):

1. Texts are read in one normal form (`models/texts.py`) and split into words.
2. Each participant's side of the chat becomes numbers: how it takes part in the chat (`models/features.py`), and sums
   over its words, of counts and of the weights of a linear model over hashed n-grams (`models/ngrams.py`). Who has the
   last word is known only in a finished chat.
3. `models/signals.py` makes one row of named `SIGNALS` for each participant: its own, and the mean of the others'.
4. Boosted and randomised trees score each row (`models/trees.py`); their log odds are averaged.
5. `pair`: in the game, at most one of two participants is a bot, so a high score for one lowers the other's.
6. The expected share of bots shifts the log odds; with one above the game's, both of two may be taken for bots.
7. `confidence` follows the probability, but never exceeds what the score says before participants are compared. It is
   never high after one or two messages, or for a participant whose letters are not mostly Cyrillic or Latin.

The linear model and the trees are fitted with scikit-learn. The artifact holds plain arrays (`models/weights.py`), and
they are scored with NumPy alone, so loading an artifact runs no code from it and serving starts without scikit-learn.
`tests/test_train.py` checks that both give the same numbers.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from .chat import Chat, Confidence, Participant, Prediction
from .features import Floats, Ints, Side, read_sides
from .ngrams import Ngrams
from .signals import SIGNALS, combine, mean_of_others
from .trees import Forest
from .validation import check_share
from .weights import SHIPPED, Rules, Weights, read_artifact

_CYRILLIC, _LATIN = SIGNALS.index("Cyrillic letters"), SIGNALS.index("Latin letters")


@dataclass(frozen=True)
class Assessment:
    """The scores of a list of chats and what they rest on, one row for each participant, chats one after the other.

    `sides`: the participants of each chat. `signals`: (rows, len(SIGNALS)). All others are (rows,): `score`, the log
    odds before the participants are compared and the expected share of bots is applied; `probabilities` of being a bot;
    `certainties`, from which `confidence` is derived: how probable the answer is, before or after the participants are
    compared, whichever is less, and at most `Rules.medium` where too little is known.
    """

    sides: list[list[Side]]
    signals: Floats
    score: Floats
    probabilities: Floats
    certainties: Floats


def log_odds(probability: Any) -> Any:
    """Return the log odds of a probability or an array of them."""
    return np.log(probability) - np.log1p(-probability)


def to_probability(odds: Floats) -> Floats:
    """Return the probabilities of log odds."""
    return np.asarray(1 / (1 + np.exp(-odds)))


def pair(score: Floats, sizes: Ints) -> Floats:
    """Compare the participants of each chat; takes and returns log odds, (sides,).

    At most one participant of a chat of two is a bot, as in the game: a softmax over "nobody" (log odds 0) and the two.
    In a chat of more, each participant is compared with the average of the others. `sizes` (chats,) is the number of
    sides of each chat.
    """
    return np.asarray(score - np.log1p(mean_of_others(np.exp(score), sizes)))


def confidence_of(certainty: float, rules: Rules) -> Confidence:
    """Return how sure an answer is."""
    if certainty >= rules.high:
        return "high"
    return "medium" if certainty >= rules.medium else "low"


class Classifier:
    """Scores chats: each participant's probability of being a bot.

    `expected_bot_share` is the share of bots among the participants where the classifier is used; by default that of
    the game it was trained on. It shifts the log odds (Saerens, Latinne and Decaestecker 2002,
    https://doi.org/10.1162/089976602753284446). One that is not between 0 and 1 raises ValueError.
    """

    def __init__(self, weights: Weights, version: str, expected_bot_share: float | None = None) -> None:
        self.version = version
        self.weights = weights
        self.expected_bot_share = weights.base if expected_bot_share is None else check_share(expected_bot_share)
        self.ngrams = Ngrams(np.pad(weights.ngrams.T.astype(np.float64), ((0, 1), (0, 0))))
        self._forest = Forest(weights.boosted, weights.randomised)

    @classmethod
    def load(cls, folder: Path = SHIPPED, expected_bot_share: float | None = None) -> Self:
        """Load the artifact of a model folder; raises `ModelError` as `read_artifact` does."""
        return cls(*read_artifact(folder), expected_bot_share)

    def for_another_thread(self) -> Self:
        """Return the same classifier with a cache of its own; the weights and trees are shared."""
        twin = copy(self)
        twin.ngrams = Ngrams(self.ngrams.weights)
        return twin

    def predict(self, chats: Sequence[Chat], expected_bot_share: float | None = None) -> list[Prediction]:
        """Score chats, in any mixture of finished and unfinished ones.

        Returns one prediction for each, in order, with the participants in the order of their first message.
        """
        return self.to_predictions(chats, self.assess(chats, expected_bot_share)) if chats else []

    def to_predictions(self, chats: Sequence[Chat], assessment: Assessment) -> list[Prediction]:
        """Return the predictions for chats that were assessed."""
        answers = zip(assessment.probabilities.tolist(), assessment.certainties.tolist(), strict=True)
        rules = self.weights.rules
        predictions = []
        for chat, sides in zip(chats, assessment.sides, strict=True):
            participants = [
                Participant(
                    participant_id=side.participant_id, is_bot_probability=one, confidence=confidence_of(sure, rules)
                )
                for side, (one, sure) in zip(sides, answers, strict=False)  # `answers` go on from chat to chat
            ]
            predictions.append(Prediction(chat_id=chat.chat_id, participants=participants, model_version=self.version))
        return predictions

    def assess(self, chats: Sequence[Chat], expected_bot_share: float | None = None) -> Assessment:
        """Assess one or more chats."""
        sides_of_chats = [read_sides(chat) for chat in chats]
        sides = [side for of_chat in sides_of_chats for side in of_chat]
        sizes = np.array([len(of_chat) for of_chat in sides_of_chats])
        sums, talk = self.ngrams.sums(sides), np.array([side.talk for side in sides])
        signals = combine(sums, talk, sizes)
        score = self.score(signals)
        share = self.expected_bot_share if expected_bot_share is None else check_share(expected_bot_share)
        shift = float(log_odds(share) - log_odds(self.weights.base))
        both = to_probability(np.array([pair(score, sizes), score]) + shift)
        probabilities = both[0]
        certainties = np.minimum(*np.where(probabilities > 0.5, both, 1 - both))
        rules = self.weights.rules
        says_little = signals[:, _CYRILLIC] + signals[:, _LATIN] < rules.known_letters
        says_little |= np.repeat([len(chat.messages) <= rules.few_messages for chat in chats], sizes)
        np.minimum(certainties, rules.medium, out=certainties, where=says_little)
        return Assessment(sides_of_chats, signals, score, probabilities, certainties)

    def score(self, signals: Floats) -> Floats:
        """Return the log odds, (rows,), of rows of `SIGNALS`."""
        boosted, randomised = self._forest.leaves(signals.astype(np.float32))  # as in training
        clip = self.weights.rules.clip
        share = np.add.reduce(randomised, axis=1) / randomised.shape[1]  # `mean`, which takes longer for a few rows
        probabilities = np.minimum(np.maximum(share, clip), 1 - clip)
        return np.asarray((boosted.sum(axis=1) + log_odds(probabilities)) / 2)
