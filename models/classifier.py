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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from models.chat import Chat, Confidence, Participant, Prediction
from models.features import (
    BOUNDARY,
    COUNTS,
    N_BUCKETS,
    STYLE,
    Side,
    pair_ngrams,
    read_sides,
    style,
    word_counts,
    word_hash,
    word_ngrams,
)

ARTIFACT = "classifier.npz"
METRICS = "metrics.json"
FORMAT = 2  # of the artifact; a change of features or arrays raises it
SHIPPED = Path(__file__).parent  # the folder of the artifact that comes with the project
_CACHED_WORDS = 1 << 15

LINEAR = ("says what bots say", "says what is said to bots")
# What is summed over a side's words and pairs; the last columns are `COUNTS`, of words only.
SUMS = ("weight as speaker", "weight as counterpart", "squared length", "idf", "n-grams", "words", *COUNTS)
# The second stage's inputs: of the participant itself, then of the others.
SIGNALS = (*LINEAR, *STYLE, *(f"the other one: {name}" for name in (*LINEAR, *STYLE)))

# Chosen by cross-validation within and across the 2025 and 2026 editions, see the model card.
SHARES = (0.35, 0.35, 0.3)  # of boosted trees, randomised trees and network in the score
TEMPER = 0.95  # takes back some of the score's confidence
LIFT = 0.3  # log odds; at most one bot in a chat makes each of two suspects less likely, more than the data says
FEW_WORDS = 2  # a chat of so many words keeps half of what its score says beyond the base rate
CLIPPED = (0.01, 1e-4)  # probabilities of randomised trees and of networks stay so far from 0 and 1
MANY_WORDS = 60  # in a chat of so many words rarity counts once; in others by their number, from 0.2 to 3 times

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
    participants. `rare`: mean idf of a chat's n-grams above which it counts as rare, and that at which nothing is known
    of it; both are percentiles of chats held out from the training data.
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
        """Put together what `arrays` took apart; raises KeyError or ValueError if they are others."""

        def part(kind: type[Any], name: str) -> Any:
            return kind(**{field.name: arrays[f"{name}.{field.name}"] for field in fields(kind)})

        weights = cls(
            **{name: arrays[name] for name in ("own", "others", "idf", "start", "base", "rare")},
            boosted=part(Trees, "boosted"),
            randomised=part(Trees, "randomised"),
            networks=part(Networks, "networks"),
        )
        shapes = [weights.own.shape, weights.others.shape, weights.idf.shape, weights.networks.center.shape]
        if shapes != [(N_BUCKETS,)] * 3 + [(len(SIGNALS),)]:
            raise ValueError(f"arrays for other features: {shapes}")
        return weights


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
        nets, units = weights.networks.out.shape
        self._out = np.zeros((nets * units, nets))  # all networks' last layers as one matrix
        for net in range(nets):
            self._out[net * units : (net + 1) * units, net] = weights.networks.out[net]
        self._boosted = Forest(weights.boosted)
        self._randomised = Forest(weights.randomised)
        own, others, idf = (array.astype(np.float64) for array in (weights.own, weights.others, weights.idf))
        grams = np.stack([own, others, idf**2, idf, np.ones(N_BUCKETS)], axis=1)
        self.grams = np.concatenate([grams, np.zeros((1, grams.shape[1]))])  # the last row is that of nothing
        self._rows: dict[str, int]
        self._values: Floats
        self._hashes: NDArray[np.uint64]
        self._forget()

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
        signals, kept = self.signals([side for of_chat in chats for side in of_chat], sizes)
        return decide(self.score(signals), sizes, kept, self.weights.base)

    def signals(self, sides: Sequence[Side], sizes: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Return what `combine` makes of these sides, of chats with so many sides each."""
        return combine(self._sums(sides), np.array([side.talk for side in sides]), sizes, self.weights.rare)

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

    def _sums(self, sides: Sequence[Side]) -> Floats:
        """Return the columns of `SUMS` for each side, from its words and pairs."""
        if len(self._rows) > _CACHED_WORDS:
            self._forget()
        rows: list[int] = []
        first = []
        for side in sides:
            first.append(len(rows))
            rows += [self._rows[word] if word in self._rows else self._look_up(word) for word in side.words]
        sums = np.add.reduceat(self._values.take(rows, axis=0), first)
        pairs = pair_ngrams(self._hashes.take(rows))
        sums[:, : self.grams.shape[1]] += np.add.reduceat(self.grams.take(pairs, axis=0), first)
        return sums

    def _look_up(self, word: str) -> int:
        """Put what a word adds to `SUMS`, and its hash, into the cache; returns its row."""
        row = len(self._rows)
        if row == len(self._values):
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        self._values[row] = [*self.grams[word_ngrams(word)].sum(axis=0), 1, *word_counts(word)]
        self._hashes[row] = word_hash(word)
        self._rows[word] = row
        return row

    def _forget(self) -> None:
        """Start the cache of words anew; a boundary adds nothing."""
        self._rows = {BOUNDARY: 0}
        self._values = np.zeros((_CACHED_WORDS // 8, len(SUMS)))
        self._hashes = np.zeros(len(self._values), np.uint64)

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
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(Weights.from_arrays(arrays), version)
        except (ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ModelError(f"{folder / ARTIFACT}: it is no artifact of format {FORMAT}: {error!r}") from None


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


def combine(sums: Floats, talk: Floats, sizes: NDArray[np.int64], rare: Floats) -> tuple[Floats, Floats]:
    """Put each side's features beside the others' of its chat, and say how far to trust what is made of them.

    `sums` (sides, len(SUMS)) and `talk` (sides, len(TALK)) describe the sides of all chats, `sizes` (chats,) is the
    number of sides in each, `rare` as of `Weights`. Returns the signals, (sides, len(SIGNALS)), and how much of its
    score a side keeps, (sides,), between 0 (tell the base rate) and 1: few words tell little; and the rarer a chat's
    n-grams were in the training data (up to those of the rarest chats in it), and the more words say so,
    the less of what was learned applies. With more than two participants the others' words are taken together and their
    talk is averaged; a participant who is alone has zeros there.
    """
    linear = sums[:, :2] / np.sqrt(sums[:, 2:3] + 1)
    own = np.concatenate([linear, talk, sums[:, 3:]], axis=1)
    everyone = _by_chat(own, sizes)
    rest = everyone - own
    averaged = 2 + talk.shape[1]
    rest[:, :averaged] /= np.maximum(sizes - 1, 1).repeat(sizes)[:, None]
    both = np.concatenate([own, rest])
    features = np.concatenate([both[:, :2], style(both[:, averaged + 3 :], both[:, 2:averaged])], axis=1)
    signals = np.concatenate([features[: len(own)], features[len(own) :]], axis=1)

    idf, ngrams, words = everyone[:, averaged : averaged + 3].T
    strange = np.clip((idf / np.maximum(ngrams, 1) - rare[0]) / (rare[1] - rare[0]), 0, 1) ** 2
    familiar = (1 - strange) ** np.clip(words / MANY_WORDS, 0.2, 3)
    return signals, familiar * words**2 / (words**2 + FEW_WORDS**2)


def decide(score: Floats, sizes: NDArray[np.int64], kept: Floats, base: Floats) -> Floats:
    """Turn scores into probabilities, (sides,), of at most one bot in a chat, as it is in the training data.

    Softmax over "nobody" (log odds 0) and each participant; then the log odds go towards those of the base rate, by
    what is not `kept`.
    """
    odds = np.exp(np.minimum(TEMPER * score + LIFT, 30))
    together = odds / (1 + _by_chat(odds, sizes))
    start = log_odds(base)
    return np.asarray(1 / (1 + np.exp(-(start + kept * (log_odds(together) - start)))))


def sum_chats(values: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Sum the rows of each chat's sides; returns one row for each chat."""
    return np.asarray(np.add.reduceat(values, np.concatenate([[0], np.cumsum(sizes)[:-1]])))


def _by_chat(values: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Sum the rows of each chat, and give each of its sides the sum."""
    return sum_chats(values, sizes).repeat(sizes, axis=0)
