"""Fit the classifier with scikit-learn, cross-validate it, and turn it into the arrays that serving loads.

Stacking (Wolpert 1992, https://doi.org/10.1016/S0893-6080(05)80023-1): the linear model over n-grams is fitted first;
what it says about chats it did not see, from inner folds, joins the style features as the input of the trees. Whole
chats are kept together in every split, inner and outer, because both sides of a chat describe each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from models.chat import Chat
from models.classifier import Weights, both_sides
from models.features import COUNTS, N_BUCKETS, Side, pair_ngrams, read_sides, word_counts, word_ngrams
from train.data import Edition

SEED = 2026
FOLDS = 5
FITS = FOLDS + 2  # of one `fit`: the inner folds, the linear stage, the trees
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Table:
    """All sides of a data set as matrices, from the features that serving computes.

    `own` and `others`, sparse (sides, N_BUCKETS): counts of n-grams in the participant's words and in the others'.
    `counts` (sides, len(COUNTS)), `talk` (sides, len(TALK)). `group` (sides,): the number of the chat.
    """

    def __init__(self, chats: Sequence[Chat]) -> None:
        by_chat = [read_sides(chat) for chat in chats]
        sides = [side for of_chat in by_chat for side in of_chat]
        sizes = [len(of_chat) for of_chat in by_chat]
        self.group = np.arange(len(chats)).repeat(sizes)
        self.own = sparse.vstack([_ngram_counts(side) for side in sides], format="csr")
        per_chat = sparse.csr_matrix((np.ones(len(sides)), (self.group, np.arange(len(sides)))))
        self.others = ((per_chat @ self.own)[self.group] - self.own).tocsr()
        self.others.eliminate_zeros()
        self.counts = np.array([np.sum([[0] * len(COUNTS), *map(word_counts, side.words)], axis=0) for side in sides])
        self.talk = np.array([side.talk for side in sides])

    def take(self, rows: Ints) -> "Table":
        """Return the sides of these rows; whole chats, in order."""
        part = object.__new__(Table)
        for name in ("own", "others", "counts", "talk", "group"):
            setattr(part, name, getattr(self, name)[rows])
        return part


def tabulate(*editions: Edition) -> tuple[Table, Ints]:
    """Return all sides of some editions as a table, and their labels (sides,)."""
    chats = [chat for edition in editions for chat in edition.chats]
    labels = [label for edition in editions for of_chat in edition.labels for label in of_chat]
    return Table(chats), np.array(labels)


class LinearStage:
    """Logistic regression over both sides' n-grams, weighted by inverse document frequency."""

    def __init__(self, strength: float = 3.0) -> None:
        self._regression = LogisticRegression(C=strength, solver="liblinear", random_state=SEED)

    def fit(self, table: Table, labels: Ints) -> "LinearStage":
        """Fit on a table and its labels (sides,)."""
        self.idf = TfidfTransformer(norm=None).fit(table.own).idf_
        self._regression.fit(self._design(table), labels)
        bot = self._regression.coef_[0] * (1 if self._regression.classes_[1] == 1 else -1)
        self.own = (bot[:N_BUCKETS] * self.idf).astype(np.float32)
        self.others = (bot[N_BUCKETS:] * self.idf).astype(np.float32)
        self.squares = (self.idf**2).astype(np.float32)
        return self

    def say(self, table: Table) -> Floats:
        """Return what a side's words say about itself and about its counterpart, (sides, 2), in log odds."""
        length = np.sqrt(table.own @ self.squares.astype(np.float64) + 1)
        weights = np.stack([self.own, self.others], axis=1).astype(np.float64)
        return np.asarray((table.own @ weights) / length[:, None])

    def _design(self, table: Table) -> sparse.csr_matrix:
        return sparse.csr_matrix(sparse.hstack([self._scaled(table.own), self._scaled(table.others)]))

    def _scaled(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        length = np.sqrt(counts @ self.idf**2 + 1)
        return sparse.csr_matrix(sparse.diags(1 / length) @ counts @ sparse.diags(self.idf))


@dataclass(frozen=True)
class Fitted:
    """Both fitted stages; what scikit-learn says here is what serving says from the arrays."""

    linear: LinearStage
    trees: GradientBoostingClassifier

    def predict(self, table: Table) -> Floats:
        """Return each side's probability of being a bot, (sides,), by scikit-learn."""
        bot = list(self.trees.classes_).index(1)
        return np.asarray(self.trees.predict_proba(signals(table, self.linear.say(table)))[:, bot])

    def weights(self) -> Weights:
        """Return the arrays that serving loads; a leaf becomes its own child."""
        trees = [tree.tree_ for tree in self.trees.estimators_[:, 0]]
        sign = 1 if list(self.trees.classes_).index(1) == 1 else -1
        shape = (len(trees), max(tree.node_count for tree in trees))
        feature, left, right = (np.zeros(shape, np.int32) for _ in range(3))
        threshold, value = np.zeros(shape), np.zeros(shape)
        for row, tree in enumerate(trees):
            nodes = np.arange(tree.node_count)
            leaf = tree.children_left < 0
            feature[row, nodes] = np.where(leaf, 0, tree.feature)
            threshold[row, nodes] = tree.threshold
            left[row, nodes] = np.where(leaf, nodes, tree.children_left)
            right[row, nodes] = np.where(leaf, nodes, tree.children_right)
            value[row, nodes] = sign * self.trees.learning_rate * tree.value[:, 0, 0]
        bots = self.trees.init_.class_prior_[list(self.trees.classes_).index(1)]
        return Weights(
            own=self.linear.own,
            others=self.linear.others,
            squares=self.linear.squares,
            feature=feature,
            threshold=threshold,
            left=left,
            right=right,
            value=value,
            base=np.array(np.log(bots / (1 - bots))),
            depth=np.array(max(tree.max_depth for tree in trees), np.int32),
        )


def fit(table: Table, labels: Ints, step: Callable[[], object] = lambda: None) -> Fitted:
    """Fit both stages on a table and its labels (sides,); `step` is called after each of the `FITS` fits."""
    said = np.zeros((len(labels), 2))
    for rest, held_out in folds(labels, table.group, SEED + 1):
        said[held_out] = LinearStage().fit(table.take(rest), labels[rest]).say(table.take(held_out))
        step()
    linear = LinearStage().fit(table, labels)
    step()
    trees = GradientBoostingClassifier(
        n_estimators=300,
        learning_rate=0.05,
        max_depth=4,
        subsample=0.5,
        max_features=0.2,
        min_samples_leaf=20,
        random_state=SEED,
    ).fit(signals(table, said), labels)
    step()
    return Fitted(linear, trees)


def signals(table: Table, said: Floats) -> Floats:
    """Return the input of the trees, (sides, len(SIGNALS))."""
    return both_sides(said, table.counts, table.talk, np.unique(table.group, return_counts=True)[1])


def folds(labels: Ints, group: Ints, seed: int) -> list[tuple[Ints, Ints]]:
    """Split sides into `FOLDS` folds that keep chats together; returns row numbers (rest, held out), ascending."""
    split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels, group)
    return [(np.asarray(rest), np.asarray(held_out)) for rest, held_out in split]


def _ngram_counts(side: Side) -> sparse.csr_matrix:
    buckets = [np.zeros(0, np.int64), *map(word_ngrams, side.words), *map(pair_ngrams, side.pairs)]
    columns, counts = np.unique(np.concatenate(buckets), return_counts=True)
    return sparse.csr_matrix((counts.astype(np.float64), (np.zeros(len(columns), int), columns)), (1, N_BUCKETS))
