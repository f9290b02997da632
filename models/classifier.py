"""The classifier: from chats to probabilities, and to and from its artifact.

Training fits it with scikit-learn; what is stored are plain arrays, and scoring needs only NumPy. Loading an artifact
therefore runs no code from it, serving starts without scikit-learn, and one chat is scored without the overhead of a
pipeline. `tests/test_train.py` holds the numbers equal to scikit-learn's.

Two stages. A linear model over hashed n-grams of both sides gives each side two numbers, one as speaker and one as
counterpart. They join the style features of both sides in gradient boosted trees.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.chat import Chat, Participant, Prediction
from models.features import COUNTS, STYLE, Side, pair_ngrams, read_sides, style, word_counts, word_ngrams

ARTIFACT = "classifier.npz"
METRICS = "metrics.json"
FORMAT = 1  # of the artifact; a change of features or arrays raises it
SHIPPED = Path(__file__).parent  # the folder of the artifact that comes with the project
_CACHED_TOKENS = 1 << 15

# Names of the trees' inputs: of the participant itself, then of the others.
LINEAR = ("words, as speaker", "words, as counterpart")
SIGNALS = (*(f"own {name}" for name in (*LINEAR, *STYLE)), *(f"others' {name}" for name in (*LINEAR, *STYLE)))


class ModelError(Exception):
    """The model folder holds no artifact that this version can serve; the message says why in one line."""


@dataclass(frozen=True)
class Weights:
    """All that was learned, as arrays.

    `own` and `others`, shape (N_BUCKETS,): weight of an n-gram in the participant's words and in the others' words.
    `squares`, shape (N_BUCKETS,): squared inverse document frequency, for the length of a text's vector.
    `feature`, `threshold`, `left`, `right`, `value`, shape (trees, nodes): the trees; a leaf is its own child, its
    value in log odds. `base`: log odds before the first tree. `depth`: the longest path.
    """

    own: NDArray[np.float32]
    others: NDArray[np.float32]
    squares: NDArray[np.float32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    base: NDArray[np.float64]
    depth: NDArray[np.int32]


class Classifier:
    """Scores chats: each participant's probability of being a bot."""

    def __init__(self, weights: Weights, version: str) -> None:
        self.version = version
        self.weights = weights
        self._rows: dict[str, int] = {}
        self._values = np.zeros((_CACHED_TOKENS, 3 + len(COUNTS)))
        trees = weights.feature.shape[0]
        first = np.arange(trees, dtype=np.int64)[:, None] * weights.feature.shape[1]
        self._roots = first[:, 0]
        self._feature = weights.feature.astype(np.int64).ravel()
        self._threshold = weights.threshold.ravel()
        self._left = (weights.left + first).ravel()
        self._right = (weights.right + first).ravel()
        self._value = weights.value.ravel()

    def predict(self, chats: Sequence[Chat]) -> list[Prediction]:
        """Score chats; returns one prediction for each, in order, participants in order of first appearance."""
        sides = [read_sides(chat) for chat in chats]
        probabilities = iter(self.probabilities(sides).tolist())
        return [
            Prediction.model_construct(
                chat_id=chat.chat_id,
                participants=[
                    Participant.model_construct(
                        participant_id=side.participant_id, is_bot_probability=next(probabilities)
                    )
                    for side in of_chat
                ],
                model_version=self.version,
            )
            for chat, of_chat in zip(chats, sides, strict=True)
        ]

    def probabilities(self, chats: Sequence[Sequence[Side]]) -> NDArray[np.float64]:
        """Return each side's probability of being a bot, shape (sides,), sides of all chats one after the other."""
        log_odds = self.grow(self.signals(chats))
        return np.asarray(1 / (1 + np.exp(-log_odds)))

    def signals(self, chats: Sequence[Sequence[Side]]) -> NDArray[np.float64]:
        """Return what the trees look at, shape (sides, len(SIGNALS))."""
        sides = [side for of_chat in chats for side in of_chat]
        sums = np.array([self._sum(side) for side in sides])
        linear = sums[:, :2] / np.sqrt(sums[:, 2:3] + 1)
        talk = np.array([side.talk for side in sides])
        return both_sides(linear, sums[:, 3:], talk, [len(of_chat) for of_chat in chats])

    def grow(self, signals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the trees' leaves, shape (sides,), in log odds; values are compared as 32-bit floats, as in training."""
        values = signals.astype(np.float32)
        row = np.arange(len(values))[:, None]
        node = np.broadcast_to(self._roots, (len(values), len(self._roots)))
        for _ in range(int(self.weights.depth)):
            below = values[row, self._feature[node]] <= self._threshold[node]
            node = np.where(below, self._left[node], self._right[node])
        return np.asarray(self._value[node].sum(axis=1) + float(self.weights.base))

    def _sum(self, side: Side) -> NDArray[np.float64]:
        """Add up a side's tokens: linear weights as speaker and as counterpart, squared length, counts."""
        if len(self._rows) + len(side.words) + len(side.pairs) > _CACHED_TOKENS:
            self._rows.clear()
        rows = self._rows
        if len(side.words) + len(side.pairs) > _CACHED_TOKENS:
            return np.asarray(np.sum([self._look_at(token) for token in (*side.words, *side.pairs)], axis=0))
        ids = []
        for token in (*side.words, *side.pairs):
            row = rows.get(token)
            if row is None:
                row = len(rows)
                self._values[row] = self._look_at(token)
                rows[token] = row
            ids.append(row)
        return np.asarray(self._values[ids].sum(axis=0))

    def _look_at(self, token: str) -> list[float]:
        """Look a token up in the weights; a pair of words holds a space, a word never does."""
        pair = " " in token
        grams = pair_ngrams(token) if pair else word_ngrams(token)
        weights = self.weights
        return [
            float(weights.own[grams].sum(dtype=np.float64)),
            float(weights.others[grams].sum(dtype=np.float64)),
            float(weights.squares[grams].sum(dtype=np.float64)),
            *([0] * len(COUNTS) if pair else word_counts(token)),
        ]

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> Self:
        """Load the artifact of a model folder; raises `ModelError` if it is missing, damaged or of another format."""
        try:
            metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
            version = str(metrics["version"])
            form, checksum, numpy = (metrics["artifact"][name] for name in ("format", "sha256", "numpy"))
            content = (folder / ARTIFACT).read_bytes()
        except OSError as error:
            raise ModelError(f"{error.filename}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder / METRICS}: cannot be read: {error!r}") from None
        if form != FORMAT:
            raise ModelError(f"{folder}: the artifact has format {form}, this version reads {FORMAT}; train it again")
        if hashlib.sha256(content).hexdigest() != checksum:
            raise ModelError(
                f"{folder / ARTIFACT}: the checksum is not that of {METRICS}; it is damaged or from another training"
            )
        if str(numpy).split(".")[0] != np.__version__.split(".")[0]:
            raise ModelError(
                f"{folder}: the artifact was written with numpy {numpy}, this is {np.__version__};"
                f" install numpy {numpy} or train again"
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(Weights(**{field.name: arrays[field.name] for field in fields(Weights)}), version)


def both_sides(
    linear: NDArray[np.float64], counts: NDArray[np.float64], talk: NDArray[np.float64], chats: Iterable[int]
) -> NDArray[np.float64]:
    """Put each side's features beside the others' of its chat.

    `linear` (sides, 2), `counts` (sides, len(COUNTS)) and `talk` (sides, len(TALK)) describe the sides of all chats,
    `chats` the number of sides in each. Returns (sides, len(SIGNALS)). With more than two participants the others'
    words are taken together and their talk is averaged; a participant who is alone has zeros there.
    """
    sizes = np.fromiter(chats, dtype=np.int64)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    others = np.maximum(sizes - 1, 1).repeat(sizes)[:, None]

    def rest(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(values, first).repeat(sizes, axis=0) - values)

    own = np.concatenate([linear, style(counts, talk)], axis=1)
    theirs = np.concatenate([rest(linear) / others, style(rest(counts), rest(talk) / others)], axis=1)
    return np.concatenate([own, theirs], axis=1)
