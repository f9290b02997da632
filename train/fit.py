"""Fit the classifier with scikit-learn, cross-validate it, and turn it into the arrays that serving loads.

Stacking (Wolpert 1992, https://doi.org/10.1016/S0893-6080(05)80023-1): the linear model over n-grams is fitted first;
what it says about chats it did not see, from inner folds, joins the style features as the input of the trees. Whole
chats are kept together in every split, inner and outer, because both sides of a chat describe each other.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from models.chat import Chat
from models.classifier import (
    CLIPPED,
    SHARES,
    SUMS,
    Floats,
    Networks,
    Trees,
    Weights,
    combine,
    decide,
    log_odds,
    sum_chats,
)
from models.features import (
    BOUNDARY,
    COUNTS,
    N_BUCKETS,
    Side,
    pair_ngrams,
    read_sides,
    word_counts,
    word_hash,
    word_ngrams,
)
from train.data import Edition

SEED = 2026
FOLDS = 5
FITS = FOLDS + 3  # of one `fit`: the inner folds, the linear stage, the boosted trees, the rest
RARE = (75, 99.8)  # percentiles of held-out chats' rarity: above the first a chat counts as rare, at the second nothing
# is known of it
IDF, NGRAMS = SUMS.index("idf"), SUMS.index("n-grams")
Ints = NDArray[np.int64]


class Table:
    """All sides of a data set as matrices, from the features that serving computes.

    `own` and `others`, sparse (sides, N_BUCKETS): counts of n-grams in the participant's words and in the others'.
    `counts` (sides, len(COUNTS)), `talk` (sides, len(TALK)). `words` (sides,): their number. `group` (sides,): that of
    the chat.
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
        words = [[word for word in side.words if word != BOUNDARY] for side in sides]
        self.counts = np.array([np.sum([[0] * len(COUNTS), *map(word_counts, said)], axis=0) for said in words])
        self.talk = np.array([side.talk for side in sides])
        self.words = np.array([len(said) for said in words], np.float64)

    def take(self, rows: Ints) -> "Table":
        """Return the sides of these rows; whole chats, in order."""
        part = object.__new__(Table)
        for name in ("own", "others", "counts", "talk", "words", "group"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def sizes(self) -> Ints:
        """Return the number of sides of each chat."""
        return np.asarray(np.unique(self.group, return_counts=True)[1])


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
        bot = self._regression.coef_[0] * _sign(self._regression)
        self.own = (bot[:N_BUCKETS] * self.idf).astype(np.float32)
        self.others = (bot[N_BUCKETS:] * self.idf).astype(np.float32)
        self.rarities = self.idf.astype(np.float32)
        return self

    def sums(self, table: Table) -> Floats:
        """Return the columns of `SUMS` for each side, (sides, len(SUMS))."""
        own, others, idf = (array.astype(np.float64) for array in (self.own, self.others, self.rarities))
        of_ngrams = np.stack([own, others, idf**2, idf, np.ones(N_BUCKETS)], axis=1)
        return np.concatenate([table.own @ of_ngrams, table.words[:, None], table.counts], axis=1)

    def _design(self, table: Table) -> sparse.csr_matrix:
        return sparse.csr_matrix(sparse.hstack([self._scaled(table.own), self._scaled(table.others)]))

    def _scaled(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        length = np.sqrt(counts @ self.idf**2 + 1)
        return sparse.csr_matrix(sparse.diags(1 / length) @ counts @ sparse.diags(self.idf))


@dataclass(frozen=True)
class Fitted:
    """All fitted parts; what scikit-learn says here is what serving says from the arrays."""

    linear: LinearStage
    boosted: GradientBoostingClassifier
    randomised: ExtraTreesClassifier
    scaler: StandardScaler
    networks: list[MLPClassifier]
    base: float
    rare: Floats

    def predict(self, table: Table) -> Floats:
        """Return each side's probability of being a bot, (sides,), by scikit-learn."""
        inputs, kept = combine(self.linear.sums(table), table.talk, table.sizes(), self.rare)
        return decide(self.score(inputs), table.sizes(), kept, np.array(self.base))

    def score(self, inputs: Floats) -> Floats:
        """Return each side's score, (sides,), in log odds, from the signals (sides, len(SIGNALS))."""
        scaled = _clip(self.scaler.transform(inputs))
        boosted = _sign(self.boosted) * self.boosted.decision_function(inputs)
        randomised = log_odds(np.clip(_of_bots(self.randomised, inputs), CLIPPED[0], 1 - CLIPPED[0]))
        said = [np.clip(_of_bots(network, scaled), CLIPPED[1], 1 - CLIPPED[1]) for network in self.networks]
        return np.asarray(
            SHARES[0] * boosted + SHARES[1] * randomised + SHARES[2] * log_odds(np.array(said)).mean(axis=0)
        )

    def weights(self) -> Weights:
        """Return the arrays that serving loads."""
        prior = self.boosted.init_.class_prior_[list(self.boosted.classes_).index(1)]
        rate = _sign(self.boosted) * self.boosted.learning_rate
        bot = list(self.randomised.classes_).index(1)
        return Weights(
            own=self.linear.own,
            others=self.linear.others,
            idf=self.linear.rarities,
            boosted=_trees([(tree.tree_, rate * tree.tree_.value[:, 0, 0]) for tree in self.boosted.estimators_[:, 0]]),
            start=np.array(log_odds(prior)),
            randomised=_trees([(tree.tree_, tree.tree_.value[:, 0, bot]) for tree in self.randomised.estimators_]),
            networks=Networks(
                center=self.scaler.mean_,
                scale=self.scaler.scale_,
                hidden=np.concatenate([network.coefs_[0] for network in self.networks], axis=1),
                hidden_bias=np.concatenate([network.intercepts_[0] for network in self.networks]),
                out=np.array([_sign(network) * network.coefs_[1][:, 0] for network in self.networks]),
                out_bias=np.array([_sign(network) * network.intercepts_[1][0] for network in self.networks]),
            ),
            base=np.array(self.base),
            rare=self.rare,
        )


def _sign(model: Any) -> int:
    """Return 1 where a model's score is that of bots, else -1."""
    return 1 if model.classes_[1] == 1 else -1


def _of_bots(model: Any, inputs: Floats) -> Floats:
    return np.asarray(model.predict_proba(inputs)[:, list(model.classes_).index(1)])


def _clip(scaled: Floats) -> Floats:
    return np.clip(scaled, -Networks.LIMIT, Networks.LIMIT)


def _trees(grown: Sequence[tuple[Any, Floats]]) -> Trees:
    """Lay scikit-learn's trees with their nodes' values side by side; a leaf becomes its own child."""
    shape = (len(grown), max(tree.node_count for tree, _ in grown))
    feature, left, right = (np.zeros(shape, np.int32) for _ in range(3))
    threshold, value = np.zeros(shape), np.zeros(shape)
    for row, (tree, of_nodes) in enumerate(grown):
        nodes = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        feature[row, nodes] = np.where(leaf, 0, tree.feature)
        threshold[row, nodes] = tree.threshold
        left[row, nodes] = np.where(leaf, nodes, tree.children_left)
        right[row, nodes] = np.where(leaf, nodes, tree.children_right)
        value[row, nodes] = of_nodes
    return Trees(feature, threshold, left, right, value, np.array(max(tree.max_depth for tree, _ in grown), np.int32))


def fit(table: Table, labels: Ints, step: Callable[[], object] = lambda: None) -> Fitted:
    """Fit all parts on a table and its labels (sides,); `step` is called after each of the `FITS` fits."""
    sums = np.zeros((len(labels), len(SUMS)))
    for rest, held_out in folds(labels, table.group, SEED + 1):
        sums[held_out] = LinearStage().fit(table.take(rest), labels[rest]).sums(table.take(held_out))
        step()
    linear = LinearStage().fit(table, labels)
    step()
    of_chats = sum_chats(sums, table.sizes())
    rare = np.percentile(of_chats[:, IDF] / np.maximum(of_chats[:, NGRAMS], 1), RARE)
    inputs, _ = combine(sums, table.talk, table.sizes(), rare)
    boosted = GradientBoostingClassifier(
        n_estimators=200,
        learning_rate=0.06,
        max_depth=4,
        subsample=0.5,
        max_features=0.1,
        min_samples_leaf=20,
        random_state=SEED,
    ).fit(inputs, labels)
    step()
    randomised = ExtraTreesClassifier(
        n_estimators=60, max_depth=10, max_features=0.5, min_samples_leaf=3, random_state=SEED
    ).fit(inputs, labels)
    scaler = StandardScaler().fit(inputs)
    scaled = _clip(scaler.transform(inputs))
    networks = [
        MLPClassifier(
            (24,),
            alpha=1.0,
            learning_rate_init=0.003,
            batch_size=64,
            max_iter=60,
            n_iter_no_change=60,
            random_state=seed,
        )
        for seed in range(SEED, SEED + 8)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # they are stopped early, which keeps them simple
        for network in networks:
            network.fit(scaled, labels)
    step()
    return Fitted(linear, boosted, randomised, scaler, networks, float(labels.mean()), rare)


def folds(labels: Ints, group: Ints, seed: int) -> list[tuple[Ints, Ints]]:
    """Split sides into `FOLDS` folds that keep chats together; returns row numbers (rest, held out), ascending."""
    split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels, group)
    return [(np.asarray(rest), np.asarray(held_out)) for rest, held_out in split]


_ngrams_of = lru_cache(maxsize=None)(word_ngrams)  # words come again and again


def _ngram_counts(side: Side) -> sparse.csr_matrix:
    pairs = pair_ngrams(np.array([*map(word_hash, side.words)], np.uint64))
    buckets = [pairs[pairs < N_BUCKETS], *(_ngrams_of(word) for word in side.words if word != BOUNDARY)]
    columns, counts = np.unique(np.concatenate(buckets), return_counts=True)
    return sparse.csr_matrix((counts.astype(np.float64), (np.zeros(len(columns), int), columns)), (1, N_BUCKETS))
