"""The classifier: from chats to probabilities, and to and from its artifact.

Training fits it with scikit-learn; what is stored are plain arrays, and scoring needs only NumPy. Loading an artifact
therefore runs no code from it, serving starts without scikit-learn, and one chat is scored without the overhead of a
pipeline. `tests/test_train.py` holds the numbers equal to scikit-learn's.

The way of a chat: features (`models/features.py`) → linear model over hashed n-grams of both sides → its scores and the
style of both sides → boosted trees, randomised trees and a small neural network, averaged → `decide`, which scores the
participants of a chat together and holds back where the chat is unlike the training data.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.chat import Chat, Confidence, Participant, Prediction
from models.features import COUNTS, N_BUCKETS, STYLE, Side, pair_ngrams, read_sides, style, word_counts, word_ngrams

ARTIFACT = "classifier.npz"
METRICS = "metrics.json"
FORMAT = 2  # of the artifact; a change of features or arrays raises it
SHIPPED = Path(__file__).parent  # the folder of the artifact that comes with the project
_CACHED_WORDS = 1 << 15

# Names of the second stage's inputs: of the participant itself, then of the others.
LINEAR = ("says what bots say", "says what is said to bots")
SIGNALS = (*LINEAR, *STYLE, *(f"the other one: {name}" for name in (*LINEAR, *STYLE)))

# Chosen by cross-validation within and across the 2025 and 2026 editions, see the model card.
SHARES = (0.4, 0.4, 0.2)  # of boosted trees, randomised trees and network in the score
TEMPER = 0.95  # takes back some of the score's confidence
LIFT = 0.25  # log odds; at most one bot in a chat makes each of two suspects less likely, more than the data says
FEW_WORDS = 2  # a chat of so many words keeps half of what its score says beyond the base rate
CLIPPED = (0.01, 1e-4)  # probabilities of randomised trees and of networks stay so far from 0 and 1

# What `confidence` means: the least probability of the more likely side. The model card shows how often it is right.
CONFIDENCE: Mapping[Confidence, float] = {"high": 0.9, "medium": 0.7, "low": 0.0}

Floats = NDArray[np.float64]


class ModelError(Exception):
    """The model folder holds no artifact that this version can serve; the message says why in one line."""


@dataclass(frozen=True)
class Trees:
    """Decision trees as arrays of shape (trees, nodes); a leaf is its own child. `depth`: the longest path."""

    feature: NDArray[np.int32]
    threshold: Floats
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: Floats
    depth: NDArray[np.int32]


@dataclass(frozen=True)
class Networks:
    """Neural networks of one hidden layer side by side, over signals that are centred, scaled and clipped at `LIMIT`.

    `center`, `scale`: (signals,); `hidden`: (signals, networks * units); `hidden_bias`: (networks * units,);
    `out`: (networks, units); `out_bias`: (networks,).
    """

    center: Floats
    scale: Floats
    hidden: Floats
    hidden_bias: Floats
    out: Floats
    out_bias: Floats

    LIMIT = 4.0  # standard deviations


@dataclass(frozen=True)
class Weights:
    """All that was learned, as arrays.

    `own` and `others`, shape (N_BUCKETS,): weight of an n-gram in the participant's words and in the others' words.
    `idf`, shape (N_BUCKETS,): inverse document frequency, how rare an n-gram is. `boosted`: leaves in log odds, to be
    summed with `start`. `randomised`: leaves as probabilities, to be averaged. `base`: share of bots among the
    participants. `rare`: mean idf of a chat's n-grams above which it counts as unlike the training data, and that of
    n-grams that were never seen.
    """

    own: NDArray[np.float32]
    others: NDArray[np.float32]
    idf: NDArray[np.float32]
    boosted: Trees
    start: Floats
    randomised: Trees
    networks: Networks
    base: Floats
    rare: Floats

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays by name; parts of a part have a dot in their name."""
        named = {}
        for field in fields(self):
            part = getattr(self, field.name)
            if isinstance(part, np.ndarray):
                named[field.name] = part
            else:
                named |= {f"{field.name}.{inner.name}": getattr(part, inner.name) for inner in fields(part)}
        return named

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Put together what `arrays` took apart; raises KeyError for an array that is missing."""

        def part(kind: type[Any], name: str) -> Any:
            return kind(**{field.name: arrays[f"{name}.{field.name}"] for field in fields(kind)})

        return cls(
            **{name: arrays[name] for name in ("own", "others", "idf", "start", "base", "rare")},
            boosted=part(Trees, "boosted"),
            randomised=part(Trees, "randomised"),
            networks=part(Networks, "networks"),
        )


class Forest:
    """Walks all trees for all rows at once."""

    def __init__(self, trees: Trees) -> None:
        first = np.arange(trees.feature.shape[0], dtype=np.intp)[:, None] * trees.feature.shape[1]
        self._roots = first[:, 0]
        self._feature = trees.feature.astype(np.intp).ravel()
        self._threshold = trees.threshold.ravel()
        self._children = np.stack([trees.left + first, trees.right + first], axis=-1).ravel()
        self._value = trees.value.ravel()
        self._depth = int(trees.depth)

    def leaves(self, signals: Floats) -> Floats:
        """Return each tree's value for each row, (rows, trees); compared are 32-bit floats, as in training."""
        values = signals.astype(np.float32).ravel()
        row = np.arange(0, len(values), signals.shape[1]).repeat(len(self._roots))
        node = np.tile(self._roots, len(signals))
        for _ in range(self._depth):
            goes_right = values.take(self._feature.take(node) + row) > self._threshold.take(node)
            node *= 2
            node += goes_right
            node = self._children.take(node)
        return self._value.take(node).reshape(len(signals), -1)


class Classifier:
    """Scores chats: each participant's probability of being a bot."""

    def __init__(self, weights: Weights, version: str) -> None:
        self.version = version
        self.weights = weights
        self._boosted = Forest(weights.boosted)
        self._randomised = Forest(weights.randomised)
        self._rows: dict[str, int] = {}
        self._values = np.zeros((_CACHED_WORDS, 5 + len(COUNTS)))
        own, others, idf = (array.astype(np.float64) for array in (weights.own, weights.others, weights.idf))
        self._grams = np.stack([own, others, idf**2, idf, np.ones(N_BUCKETS)], axis=1)

    def predict(self, chats: Sequence[Chat]) -> list[Prediction]:
        """Score chats; returns one prediction for each, in order, participants in order of first appearance."""
        sides = [read_sides(chat) for chat in chats]
        probabilities = iter(self.probabilities(sides).tolist())
        return [
            Prediction.model_construct(
                chat_id=chat.chat_id,
                participants=[answer(side, next(probabilities)) for side in of_chat],
                model_version=self.version,
            )
            for chat, of_chat in zip(chats, sides, strict=True)
        ]

    def probabilities(self, chats: Sequence[Sequence[Side]]) -> Floats:
        """Return each side's probability of being a bot, shape (sides,), sides of all chats one after the other."""
        sizes = np.array([len(of_chat) for of_chat in chats])
        signals, words, rarity = self.signals(chats)
        return decide(self.score(signals), sizes, held_back(words, rarity, sizes, self.weights.rare), self.weights.base)

    def signals(self, chats: Sequence[Sequence[Side]]) -> tuple[Floats, Floats, Floats]:
        """Return what the second stage looks at, (sides, len(SIGNALS)), the number of words, (sides,), and the rarity.

        The rarity, (sides, 2), is the sum of the idf of a side's n-grams and their number.
        """
        sides = [side for of_chat in chats for side in of_chat]
        sums = np.array([self._sum(side) for side in sides])
        linear = sums[:, :2] / np.sqrt(sums[:, 2:3] + 1)
        talk = np.array([side.talk for side in sides])
        words = np.array([len(side.words) for side in sides], dtype=np.float64)
        return both_sides(linear, sums[:, 5:], talk, [len(of_chat) for of_chat in chats]), words, sums[:, 3:5]

    def score(self, signals: Floats) -> Floats:
        """Return each side's score, (sides,), in log odds, looked at alone."""
        weights, networks = self.weights, self.weights.networks
        boosted = self._boosted.leaves(signals).sum(axis=1) + float(weights.start)
        randomised = np.clip(self._randomised.leaves(signals).mean(axis=1), CLIPPED[0], 1 - CLIPPED[0])
        scaled = np.clip((signals - networks.center) / networks.scale, -networks.LIMIT, networks.LIMIT)
        units = np.maximum(scaled @ networks.hidden + networks.hidden_bias, 0).reshape(
            len(signals), *networks.out.shape
        )
        limit = -log_odds(CLIPPED[1])
        network = np.clip((units * networks.out).sum(axis=2) + networks.out_bias, -limit, limit).mean(axis=1)
        return np.asarray(SHARES[0] * boosted + SHARES[1] * log_odds(randomised) + SHARES[2] * network)

    def _sum(self, side: Side) -> Floats:
        """Add up a side's words and pairs, the columns of `look_at`."""
        sums = np.zeros(self._values.shape[1])
        if side.words:
            rows = self._rows_of(side.words)  # before `_values` is read: the cache may start anew
            sums += self._values[rows].sum(axis=0)
        if side.pairs:
            grams = self._grams[pair_ngrams(side.pairs)]
            sums[: grams.shape[1]] += grams.sum(axis=0)
        return sums

    def _rows_of(self, words: Sequence[str]) -> list[int]:
        """Return the rows of the cache that hold these words; it starts anew, with room for all, when it is full."""
        if len(self._rows) + len(words) > len(self._values):
            self._rows.clear()
            self._values = np.zeros((max(_CACHED_WORDS, len(words)), self._values.shape[1]))
        rows = []
        for word in words:
            row = self._rows.get(word)
            if row is None:
                row = len(self._rows)
                self._values[row] = self.look_at(word)
                self._rows[word] = row
            rows.append(row)
        return rows

    def look_at(self, word: str) -> Floats:
        """Look a word up: its n-grams' weights as speaker and as counterpart, squared length, idf, number; counts."""
        return np.concatenate([self._grams[word_ngrams(word)].sum(axis=0), word_counts(word)])

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
            return cls(Weights.from_arrays(arrays), version)


def _clip(values: Floats, limit: float) -> Floats:
    return np.minimum(np.maximum(values, -limit), limit)


def log_odds(probability: Any) -> Any:
    """Return the log odds of a probability or an array of them."""
    return np.log(probability) - np.log1p(-probability)


def answer(side: Side, probability: float) -> Participant:
    """Return the answer for one participant."""
    likelier = max(probability, 1 - probability)
    return Participant.model_construct(
        participant_id=side.participant_id,
        is_bot_probability=probability,
        confidence=next(name for name, least in CONFIDENCE.items() if likelier >= least),
    )


def both_sides(linear: Floats, counts: Floats, talk: Floats, chats: Iterable[int]) -> Floats:
    """Put each side's features beside the others' of its chat.

    `linear` (sides, 2), `counts` (sides, len(COUNTS)) and `talk` (sides, len(TALK)) describe the sides of all chats,
    `chats` the number of sides in each. Returns (sides, len(SIGNALS)). With more than two participants the others'
    words are taken together and their talk is averaged; a participant who is alone has zeros there.
    """
    sizes = np.fromiter(chats, dtype=np.int64)
    others = np.maximum(sizes - 1, 1).repeat(sizes)[:, None]

    def rest(values: Floats) -> Floats:
        return np.asarray(_by_chat(values, sizes) - values)

    own = np.concatenate([linear, style(counts, talk)], axis=1)
    theirs = np.concatenate([rest(linear) / others, style(rest(counts), rest(talk) / others)], axis=1)
    return np.concatenate([own, theirs], axis=1)


def held_back(words: Floats, rarity: Floats, sizes: NDArray[np.int64], rare: Floats) -> Floats:
    """Return how much of its score a chat keeps, for each side, between 0 (tell the base rate) and 1.

    Few words tell little; and the rarer a chat's n-grams were in the training data (up to those of another script,
    which it never saw), the less of what was learned applies. `words` (sides,), `rarity` (sides, 2) as of
    `Classifier.signals`, `rare` as of `Weights`.
    """
    said = _by_chat(words, sizes) ** 2
    total = _by_chat(rarity, sizes)
    mean = total[:, 0] / np.maximum(total[:, 1], 1)
    known = np.clip((rare[1] - mean) / (rare[1] - rare[0]), 0, 1)
    return np.asarray(known * said / (said + FEW_WORDS**2))


def decide(score: Floats, sizes: NDArray[np.int64], kept: Floats, base: Floats) -> Floats:
    """Turn scores into probabilities, (sides,), of at most one bot in a chat, as it is in the training data.

    Softmax over "nobody" (log odds 0) and each participant; then the log odds go towards those of the base rate, by
    what is not `kept`.
    """
    odds = np.exp(np.minimum(TEMPER * score + LIFT, 30))
    together = odds / (1 + _by_chat(odds, sizes))
    start = log_odds(base)
    return np.asarray(1 / (1 + np.exp(-(start + kept * (log_odds(together) - start)))))


def _by_chat(values: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Sum the rows of each chat, and give each of its sides the sum."""
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.asarray(np.add.reduceat(values, first).repeat(sizes, axis=0))
