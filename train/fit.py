"""Fit the classifier with scikit-learn, and turn it into the arrays that serving loads.

Stacking (Wolpert 1992, https://doi.org/10.1016/S0893-6080(05)80023-1): the linear model over n-grams is fitted first;
its scores of chats that it did not see, from inner folds, are inputs of the trees. Whole chats are kept together in
every split, with all their copies, because both sides of a chat describe each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from models.features import (
    BOUNDARY,
    COUNTS,
    N_BUCKETS,
    Floats,
    Ints,
    Side,
    pair_ngrams,
    read_sides,
    word_counts,
    word_hash,
    word_ngrams,
)
from models.signals import SUMS, combine
from models.trees import Trees
from models.weights import Rules, Weights
from train.copies import copies, last_answers
from train.data import Edition

SEED = 2026
FOLDS = 5
OTHER_GAMES = 0.3  # what a chat of another game weighs for the trees; the linear model counts it in full
REGULARISATION = 3.0  # `C` of the linear model
# `high` was chosen so that it is right 95 times of 100 in cross-validation, and 90 times on each left-out game.
RULES = Rules(high=0.96, medium=0.7, few_messages=2, known_letters=0.5, clip=0.01)


@dataclass(frozen=True)
class Table:
    """Sides of chats and of their copies as matrices, from the features that serving computes.

    `own`, sparse (sides, N_BUCKETS): counts of n-grams in the participant's words. `counts` (sides, len(COUNTS)),
    `talk` (sides, len(TALK)). All others are (sides,): `labels`; `group`, the number of the copy; `chat`, that of the
    original; `game`, that of the data set; `home`, whether it is the home game; `weight`, of the row for the trees;
    `whole`, whether it is the whole chat with nothing said about its end; `reading`, of the row for the linear model.
    """

    own: sparse.csr_matrix
    counts: Floats
    talk: Floats
    labels: Ints
    group: Ints
    chat: Ints
    game: Ints
    home: NDArray[np.bool_]
    weight: Floats
    whole: NDArray[np.bool_]
    reading: Floats

    def take(self, rows: Ints | NDArray[np.bool_]) -> "Table":
        """Return these rows (numbers or a mask), in order; every copy stays complete."""
        return Table(**{name: values[rows] for name, values in vars(self).items()})

    def sizes(self) -> Ints:
        """Return the number of sides of each chat."""
        return np.asarray(np.unique(self.group, return_counts=True)[1])

    def others(self) -> sparse.csr_matrix:
        """Return the counts of n-grams in the words of all other participants of each side's chat."""
        group = np.unique(self.group, return_inverse=True)[1]
        of_chats = sparse.csr_matrix((np.ones(len(group)), (group, np.arange(len(group))))) @ self.own
        others: sparse.csr_matrix = (of_chats[group] - self.own).tocsr()
        others.eliminate_zeros()
        return others


def tabulate(home: Sequence[Edition], elsewhere: Sequence[Edition] = ()) -> Table:
    """Return the sides of all chats of some games, and of the copies to train on."""
    editions = enumerate([*home, *elsewhere])
    chats = [(game, *one) for game, edition in editions for one in zip(edition.chats, edition.labels, strict=True)]
    rows: list[tuple[Any, ...]] = []  # the fields of `Table`
    groups = count()
    for number, (game, chat, of_chat) in enumerate(chats):
        at_home = game < len(home)
        who = dict(zip(last_answers(chat), of_chat, strict=True))
        for copy in copies(chat, who, np.random.default_rng([SEED, number]), at_home=at_home):
            group, weight = next(groups), copy.weight * (1 if at_home else OTHER_GAMES)
            for side in read_sides(copy.chat):
                features, label = (_ngram_counts(side), _count(side), side.talk), who[side.participant_id]
                rows.append((*features, label, group, number, game, at_home, weight, copy.whole, copy.reading))
    own, *columns = zip(*rows, strict=True)
    return Table(sparse.vstack(own, format="csr"), *map(np.array, columns))


def fit_linear(table: Table) -> NDArray[np.float32]:
    """Fit a logistic regression over both sides' n-grams on a table, whose rows weigh what `reading` says.

    Returns (len(OF_NGRAMS), N_BUCKETS): what an n-gram adds to each of `OF_NGRAMS`, as it is stored.
    """
    idf = TfidfTransformer(norm=None).fit(table.own).idf_
    regression = LogisticRegression(C=REGULARISATION, solver="liblinear", tol=0.1, random_state=SEED)
    design = sparse.hstack([_scaled(table.own, idf), _scaled(table.others(), idf)])
    regression.fit(sparse.csr_matrix(design), table.labels, table.reading)
    return np.array([*np.split(regression.coef_[0], 2) * idf, idf**2], np.float32)


def sum_words(table: Table, ngrams: NDArray[np.float32]) -> Floats:
    """Return the columns of `SUMS` for each side, (sides, len(SUMS))."""
    return np.concatenate([table.own @ ngrams.T.astype(np.float64), table.counts], axis=1)


def _scaled(counts: sparse.csr_matrix, idf: Floats) -> sparse.csr_matrix:
    length = np.sqrt(counts @ idf**2 + 1)
    return sparse.csr_matrix(sparse.diags(1 / length) @ counts @ sparse.diags(idf))


@dataclass(frozen=True)
class Fitted:
    """All fitted parts."""

    ngrams: NDArray[np.float32]
    boosted: HistGradientBoostingClassifier
    randomised: ExtraTreesClassifier
    base: float
    typical: NDArray[np.float32]

    def weights(self) -> Weights:
        """Return the arrays that serving loads."""
        start = self.boosted._baseline_prediction.item() / self.boosted.n_iter_  # each tree gets its part
        boosted = [
            (n["feature_idx"], n["num_threshold"], n["value"] + start, n["is_leaf"], n["left"], n["right"])
            for n in (grown.nodes for (grown,) in self.boosted._predictors)
        ]
        randomised = [
            (t.feature, t.threshold, t.value[:, 0, 1], t.children_left < 0, t.children_left, t.children_right)
            for t in (grown.tree_ for grown in self.randomised.estimators_)
        ]
        return Weights(
            ngrams=self.ngrams,
            boosted=_lay_out(boosted, self.boosted.max_depth),
            randomised=_lay_out(randomised, self.randomised.max_depth),
            base=self.base,
            typical=self.typical,
            rules=RULES,
        )


def _lay_out(grown: Sequence[Sequence[NDArray[Any]]], depth: int) -> Trees:
    """Lay out scikit-learn's trees, none of which is deeper than `depth`, as complete ones.

    Each is given by arrays of its nodes: feature, threshold, value, whether it is a leaf, left and right child.
    Thresholds are rounded down to 32-bit floats, which does not change the comparison with a 32-bit float.
    """
    laid_out = []
    for features, thresholds, values, is_leaf, lefts, rights in grown:
        rounded = thresholds.astype(np.float32)
        rounded = np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        children = np.where(is_leaf, np.arange(len(is_leaf)), [lefts, rights])  # a leaf is its own child
        levels: list[Ints] = [np.zeros(1, np.int64)]
        for _ in range(depth):
            levels.append(children[:, levels[-1]].T.ravel())
        inner = np.concatenate(levels[:-1])
        laid_out.append(
            (np.where(is_leaf, 0, features)[inner], np.where(is_leaf, np.inf, rounded)[inner], values[levels[-1]])
        )
    feature, threshold, leaves = (np.array(part) for part in zip(*laid_out, strict=True))
    return Trees(feature.astype(np.uint8), threshold.astype(np.float32), leaves.astype(np.float32))


def fit(table: Table) -> Fitted:
    """Fit all parts on a table."""
    read = table.take(table.reading > 0)
    sums = np.zeros((len(table.labels), len(SUMS)))
    for held_out in folds(table.take(table.whole), SEED + 1):
        rows = np.isin(table.chat, held_out)
        sums[rows] = sum_words(table.take(rows), fit_linear(read.take(~np.isin(read.chat, held_out))))
    inputs = combine(sums, table.talk, table.sizes()).astype(np.float32)
    boosted = HistGradientBoostingClassifier(
        learning_rate=0.15,
        max_depth=6,
        max_leaf_nodes=None,
        max_features=0.1,
        max_bins=64,
        min_samples_leaf=60,
        early_stopping=False,
        random_state=SEED,
    )
    randomised = ExtraTreesClassifier(40, max_depth=14, max_features=0.5, min_samples_leaf=4, random_state=SEED)
    for trees in (boosted, randomised):
        trees.fit(inputs, table.labels, table.weight)
    of_game = table.whole & table.home
    return Fitted(fit_linear(read), boosted, randomised, table.labels[of_game].mean(), inputs[of_game].mean(axis=0))


def folds(whole: Table, seed: int) -> list[Ints]:
    """Split whole chats into `FOLDS` folds; returns the numbers of the chats that are held out of each."""
    strata = 2 * whole.game + whole.labels
    split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(strata, strata, whole.chat)
    return [np.unique(whole.chat[held_out]) for _, held_out in split]


_ngrams_of = lru_cache(maxsize=None)(word_ngrams)  # the same words occur again and again
_counts_of = lru_cache(maxsize=None)(lambda word: np.array(word_counts(word)))


def _count(side: Side) -> Floats:
    return np.asarray(sum([_counts_of(word) for word in side.words if word != BOUNDARY], np.zeros(len(COUNTS))))


def _ngram_counts(side: Side) -> sparse.csr_matrix:
    pairs = pair_ngrams(np.array([*map(word_hash, side.words)], np.uint64))
    buckets = [pairs[pairs < N_BUCKETS], *(_ngrams_of(word) for word in side.words if word != BOUNDARY)]
    columns, counts = np.unique(np.concatenate(buckets), return_counts=True)
    return sparse.csr_matrix((counts.astype(np.float64), (np.zeros(len(columns), int), columns)), (1, N_BUCKETS))
