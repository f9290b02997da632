"""Fit the classifier with scikit-learn, and turn it into the arrays that serving loads.

Stacking (Wolpert 1992, https://doi.org/10.1016/S0893-6080(05)80023-1): the linear models over n-grams are fitted first;
their scores of chats that they did not see, from inner folds, are inputs of the experts' trees. Whole chats are kept
together in every split, with all their copies, because both sides of a chat describe each other.

Data sets are games: those of the home game (You are Bot) and others. The home expert is fitted on the home game only,
the elsewhere expert on all games, each with the same weight.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from models.chat import Chat
from models.classifier import (
    CLIPPED,
    GATE,
    LINEAR,
    RUNNING_DIALOG,
    SIGNALS,
    SITUATIONS,
    SUMS,
    Expert,
    Floats,
    Gate,
    Ints,
    Trees,
    Weights,
    average,
    combine,
    decide,
    describe,
    log_odds,
    mix,
    situations,
)
from models.features import (
    BOUNDARY,
    COUNTS,
    N_BUCKETS,
    TALK,
    Side,
    pair_ngrams,
    read_sides,
    word_counts,
    word_hash,
    word_ngrams,
)
from train.copies import last_answers, shift, so_far
from train.data import Edition

SEED = 2026
FOLDS = 5
FITS = FOLDS + 1 + len(SITUATIONS) + 1  # steps of one `fit`: the linear models, then the experts

COMPLETE, SHIFTED, SHIFTED_BOTH, RUNNING = range(4)  # kinds of rows
COPIES = 2  # of each kind of shifted chats
PREFIXES = 12  # dialogs are cut off after each of the first messages, up to so many, and at each one's last message


@dataclass(frozen=True)
class Grown:
    """How an expert's trees are grown: their number, depth, and the least number of rows in a leaf."""

    boosted: int = 200
    boosted_depth: int = 4
    boosted_leaf: int = 25
    boosted_features: float = 0.1
    rate: float = 0.06
    randomised: int = 60
    randomised_depth: int = 10
    randomised_leaf: int = 4


HOME_TREES = {
    "running dialog": Grown(boosted_leaf=60, randomised_leaf=10),
    "strict turn-taking": Grown(boosted_leaf=25, randomised_leaf=4),
    "free turn-taking": Grown(boosted_leaf=60, randomised_leaf=8),
}
ELSEWHERE_TREES = Grown(
    boosted=100,
    boosted_depth=3,
    boosted_leaf=20,
    boosted_features=0.3,
    rate=0.08,
    randomised_depth=8,
    randomised_leaf=10,
)
# What a row weighs by its kind (`COMPLETE`, `SHIFTED`, `SHIFTED_BOTH`), if its chat is of the expert's situation.
WEIGHTS = {"strict turn-taking": (1.0, 0.1, 0.2), "free turn-taking": (1.0, 1.0, 0.5)}
STRANGERS = {"strict turn-taking": 0.0, "free turn-taking": 0.1}  # and a complete chat of another situation
WEIGHTS_ELSEWHERE = (1.0, 0.3, 0.3)

# Signals that the elsewhere expert does not see: who speaks when and how much, and the alphabet.
_HOME_ONLY = {
    *(name for name in LINEAR if name.endswith("at home")),
    "opens the chat",
    "messages",
    "share of the messages",
    "share of the characters",
    "words",
    "spread of the lengths",
    "longest message",
    "writes twice in a row",
    "repeats own words",
    "empty messages",
    "has the last word",
    "Cyrillic letters",
    "Latin letters",
}
GENERAL = [at for at, name in enumerate(SIGNALS) if name.removeprefix("the other one: ") not in _HOME_ONLY]
SAME_WAY = 0.01  # a signal points the same way in all games if its AUC is so far from 0.5, on the same side, in each


@dataclass(frozen=True)
class Table:
    """Sides of chats and of their copies as matrices, from the features that serving computes.

    `own` and `others`, sparse (sides, N_BUCKETS): counts of n-grams in the participant's words and in the others'.
    `counts` (sides, len(COUNTS)), `talk` (sides, len(TALK)), `words` (sides,). All others are (sides,): `labels`;
    `group`, the number of the chat or copy; `chat`, that of the original; `game`, that of the data set; `home`, whether
    it is the home game; `kind`; `asked`, whether the side has the last word.
    """

    own: sparse.csr_matrix
    others: sparse.csr_matrix
    counts: Floats
    talk: Floats
    words: Floats
    labels: Ints
    group: Ints
    chat: Ints
    game: Ints
    home: NDArray[np.bool_]
    kind: Ints
    asked: NDArray[np.bool_]

    def take(self, rows: Ints | NDArray[np.bool_]) -> "Table":
        """Return the sides of these rows (numbers or a mask); whole chats, in order."""
        return Table(**{name: values[rows] for name, values in vars(self).items()})

    def sizes(self) -> Ints:
        """Return the number of sides of each chat."""
        return np.asarray(np.unique(self.group, return_counts=True)[1])


def tabulate(home: Sequence[Edition], elsewhere: Sequence[Edition] = ()) -> Table:
    """Return the sides of all chats of some games, and of the copies to train on."""
    chats: list[Chat] = []
    facts: list[tuple[int, int, int, bool, int]] = []  # group, chat, game, home, kind
    labels: list[int] = []
    number = 0
    for game, edition in enumerate([*home, *elsewhere]):
        is_home = game < len(home)
        for chat, of_chat in zip(edition.chats, edition.labels, strict=True):
            who = dict(zip(last_answers(chat), of_chat, strict=True))
            for kind, copy in copies(chat, number, running=is_home):
                speakers = last_answers(copy)
                labels += [who[speaker] for speaker in speakers]
                facts += [(len(chats), number, game, is_home, kind)] * len(speakers)
                chats.append(copy)
            number += 1
    sides = [side for chat in chats for side in read_sides(chat)]
    group, of_chat, game, is_home, kind = (np.array(column) for column in zip(*facts, strict=True))
    own = sparse.vstack([_ngram_counts(side) for side in sides], format="csr")
    per_chat = sparse.csr_matrix((np.ones(len(sides)), (group, np.arange(len(sides)))))
    others = ((per_chat @ own)[group] - own).tocsr()
    others.eliminate_zeros()
    words = [[word for word in side.words if word != BOUNDARY] for side in sides]
    talk = np.array([side.talk for side in sides])
    return Table(
        own=own,
        others=others,
        counts=np.array([np.sum([[0] * len(COUNTS), *map(word_counts, said)], axis=0) for said in words], np.float64),
        talk=talk,
        words=np.array([len(said) for said in words], np.float64),
        labels=np.array(labels),
        group=group,
        chat=of_chat,
        game=game,
        home=is_home,
        kind=kind,
        asked=talk[:, TALK.index("has the last word")] == 1,
    )


def copies(chat: Chat, number: int, *, running: bool) -> list[tuple[int, Chat]]:
    """Return a chat and its copies to train on, each with its kind; `number` seeds what is drawn."""
    made = [(COMPLETE, chat)]
    for copy in range(COPIES):
        for kind in (SHIFTED, SHIFTED_BOTH):
            draw = np.random.default_rng([SEED, copy, kind, number])
            made.append((kind, shift(chat, draw, beginning=kind == SHIFTED_BOTH)))
    if running:
        cuts = {*range(1, min(len(chat.messages), PREFIXES) + 1), *last_answers(chat).values()}
        made += [(RUNNING, so_far(chat, messages)) for messages in sorted(cuts)]
    return made


class LinearStage:
    """Two logistic regressions over both sides' n-grams: for the home game, and for all games."""

    def fit(self, table: Table) -> "LinearStage":
        """Fit on a table."""
        idf = TfidfTransformer(norm=None).fit(table.own).idf_
        design = sparse.csr_matrix(sparse.hstack([_scaled(table.own, idf), _scaled(table.others, idf)]))
        everybody = np.ones(len(table.labels), bool)
        weights = []
        for chosen in (table.home, everybody):
            if chosen.all() and weights:
                weights += weights  # there is one game only
                continue
            regression = LogisticRegression(C=3.0, solver="liblinear", tol=0.01, random_state=SEED)
            regression.fit(design[chosen], table.labels[chosen])
            bot = regression.coef_[0] * _sign(regression)
            weights += [(bot[:N_BUCKETS] * idf).astype(np.float32), (bot[N_BUCKETS:] * idf).astype(np.float32)]
        self.weights = np.array(weights)
        self.idf = idf.astype(np.float32)
        return self

    def sums(self, table: Table) -> Floats:
        """Return the columns of `SUMS` for each side, (sides, len(SUMS))."""
        of_ngrams = np.column_stack([self.weights.T.astype(np.float64), self.idf.astype(np.float64) ** 2])
        return np.concatenate([table.own @ of_ngrams, table.words[:, None], table.counts], axis=1)


def _scaled(counts: sparse.csr_matrix, idf: Floats) -> sparse.csr_matrix:
    length = np.sqrt(counts @ idf**2 + 1)
    return sparse.csr_matrix(sparse.diags(1 / length) @ counts @ sparse.diags(idf))


@dataclass(frozen=True)
class FittedExpert:
    """One expert's trees, over the columns `signals` of `SIGNALS`."""

    boosted: GradientBoostingClassifier
    randomised: ExtraTreesClassifier
    signals: list[int]

    def score(self, inputs: Floats) -> Floats:
        """Return log odds, (sides,)."""
        chosen = inputs[:, self.signals]
        randomised = np.clip(_of_bots(self.randomised, chosen), CLIPPED, 1 - CLIPPED)
        return average(_sign(self.boosted) * self.boosted.decision_function(chosen), log_odds(randomised))

    def arrays(self) -> Expert:
        """Return the arrays that serving loads."""
        boosted, randomised = self.boosted, self.randomised
        prior = boosted.init_.class_prior_[list(boosted.classes_).index(1)]
        rate = _sign(boosted) * boosted.learning_rate
        bot = list(randomised.classes_).index(1)
        return Expert(
            boosted=_trees([(t.tree_, rate * t.tree_.value[:, 0, 0]) for t in boosted.estimators_[:, 0]], self.signals),
            start=np.array(log_odds(prior)),
            randomised=_trees([(t.tree_, t.tree_.value[:, 0, bot]) for t in randomised.estimators_], self.signals),
        )


@dataclass(frozen=True)
class Fitted:
    """All fitted parts."""

    linear: LinearStage
    home: list[FittedExpert]  # one for each of the `SITUATIONS`
    elsewhere: FittedExpert
    gate: Gate
    base: float
    typical: Floats

    def predict(self, table: Table) -> Floats:
        """Return the probability of each side, (sides,), with scikit-learn's own predictions."""
        sums, sizes = self.linear.sums(table), table.sizes()
        inputs = combine(sums, table.talk, sizes)
        gate, words = describe(sums, table.talk, sizes)
        running = table.kind[np.cumsum(sizes) - 1] == RUNNING
        scores = np.array([expert.score(inputs) for expert in self.home])
        at_home = scores[situations(gate, running).repeat(sizes), np.arange(len(inputs))]
        share = self.gate.share(gate).repeat(sizes)
        return decide(mix(at_home, self.elsewhere.score(inputs), share), sizes, words, self.base)

    def weights(self) -> Weights:
        """Return the arrays that serving loads."""
        running, strict, free = (expert.arrays() for expert in self.home)
        return Weights(
            linear=self.linear.weights,
            idf=self.linear.idf,
            running=running,
            strict=strict,
            free=free,
            elsewhere=self.elsewhere.arrays(),
            gate=self.gate,
            base=np.array(self.base),
            typical=self.typical,
        )


def _sign(model: Any) -> int:
    """Return 1 where a model's score is that of bots, else -1."""
    return 1 if model.classes_[1] == 1 else -1


def _of_bots(model: Any, inputs: Floats) -> Floats:
    return np.asarray(model.predict_proba(inputs)[:, list(model.classes_).index(1)])


def _trees(grown: Sequence[tuple[Any, Floats]], signals: Sequence[int]) -> Trees:
    """Lay out scikit-learn's trees with their nodes' values side by side; a leaf becomes its own child."""
    shape = (len(grown), max(tree.node_count for tree, _ in grown))
    feature, left, right = (np.zeros(shape, np.int32) for _ in range(3))
    threshold, value = np.zeros(shape), np.zeros(shape)
    for row, (tree, of_nodes) in enumerate(grown):
        nodes = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        feature[row, nodes] = np.where(leaf, 0, np.array(signals)[np.where(leaf, 0, tree.feature)])
        threshold[row, nodes] = tree.threshold
        left[row, nodes] = np.where(leaf, nodes, tree.children_left)
        right[row, nodes] = np.where(leaf, nodes, tree.children_right)
        value[row, nodes] = of_nodes
    return Trees(feature, threshold, left, right, value, np.array(max(tree.max_depth for tree, _ in grown), np.int32))


def fit(table: Table, step: Callable[[], object] = lambda: None) -> Fitted:
    """Fit all parts on a table; `step` is called after each of the `FITS` steps."""
    complete = np.flatnonzero(table.kind == COMPLETE)
    of_complete = table.take(complete)
    sums = np.zeros((len(table.labels), len(SUMS)))
    for rest, held_out in folds(of_complete, SEED + 1):
        rows = np.isin(table.chat, of_complete.chat[held_out])
        sums[rows] = LinearStage().fit(of_complete.take(rest)).sums(table.take(rows))
        step()
    linear = LinearStage().fit(of_complete)
    step()
    sizes = table.sizes()
    inputs = combine(sums, table.talk, sizes)
    gate, _ = describe(sums, table.talk, sizes)
    turns = situations(gate, np.zeros(len(gate), np.bool_)).repeat(sizes)
    home = []
    for situation in SITUATIONS:
        weights = _home_weights(table, turns, situation)
        home.append(_fit_expert(inputs, table.labels, weights, HOME_TREES[situation], list(range(len(SIGNALS)))))
        step()
    weights = _elsewhere_weights(table)
    elsewhere = _fit_expert(inputs, table.labels, weights, ELSEWHERE_TREES, _general(inputs[complete], of_complete))
    step()
    of_home = inputs[complete][of_complete.home]
    base = float(of_complete.labels[of_complete.home].mean())
    return Fitted(linear, home, elsewhere, _fit_gate(gate, table), base, of_home.mean(axis=0))


def _home_weights(table: Table, turns: Ints, situation: str) -> Floats:
    """Return how much each row weighs when the home expert is fitted for a situation, (sides,).

    `turns` (sides,) is the number of a row's turn-taking in `SITUATIONS`.
    """
    if situation == SITUATIONS[RUNNING_DIALOG]:
        chosen = table.home & table.asked & (table.kind == RUNNING)
        asked = np.bincount(table.chat[chosen], minlength=table.chat.max() + 1)  # how often, in this chat
        return np.where(chosen, 1 / np.sqrt(np.maximum(asked, 1))[table.chat], 0)
    of_kind = np.array([*WEIGHTS[situation], 0.0])[table.kind]
    strangers = np.where(table.kind == COMPLETE, STRANGERS[situation], 0)
    return np.where(table.home, np.where(turns == SITUATIONS.index(situation), of_kind, strangers), 0)


def _elsewhere_weights(table: Table) -> Floats:
    """Return how much each row weighs in the elsewhere expert, (sides,): every game as much as any other."""
    weights = np.array([*WEIGHTS_ELSEWHERE, 0.0])[table.kind]
    of_games = np.bincount(table.game, weights)[table.game]
    return weights / of_games * weights.sum() / len(np.unique(table.game))


def _fit_expert(inputs: Floats, labels: Ints, weights: Floats, trees: "Grown", signals: list[int]) -> FittedExpert:
    rows = np.flatnonzero(weights)
    chosen, labels, weights = inputs[rows][:, signals], labels[rows], weights[rows]
    boosted = GradientBoostingClassifier(
        n_estimators=trees.boosted,
        learning_rate=trees.rate,
        max_depth=trees.boosted_depth,
        subsample=0.5,
        max_features=trees.boosted_features,
        min_samples_leaf=trees.boosted_leaf,
        random_state=SEED,
    ).fit(chosen, labels, weights)
    randomised = ExtraTreesClassifier(
        n_estimators=trees.randomised,
        max_depth=trees.randomised_depth,
        max_features=0.5,
        min_samples_leaf=trees.randomised_leaf,
        random_state=SEED,
    ).fit(chosen, labels, weights)
    return FittedExpert(boosted, randomised, signals)


def _general(inputs: Floats, table: Table) -> list[int]:
    """Return the general signals that point the same way in all games, as numbers of `SIGNALS`.

    `inputs` and `table` are those of the complete chats.
    """
    found = []
    for signal in GENERAL:
        areas = []
        for game in np.unique(table.game):
            rows = table.game == game
            areas.append(roc_auc_score(table.labels[rows], inputs[rows, signal]) - 0.5)
        if min(areas) > SAME_WAY or max(areas) < -SAME_WAY:
            found.append(signal)
    return found


def _fit_gate(inputs: Floats, table: Table) -> Gate:
    """Fit the gate on one row for each chat and shifted copy, both kinds of games weighing the same."""
    first = np.flatnonzero(np.diff(table.group, prepend=-1))
    chosen = table.kind[first] != RUNNING
    rows, home = inputs[chosen], table.home[first][chosen]
    if home.all():
        return Gate(np.zeros(len(GATE)), np.array(np.inf))  # no other game was seen: everything is home
    scaler = StandardScaler().fit(rows)
    fitted = LogisticRegression(class_weight="balanced").fit(scaler.transform(rows), home)
    weights = fitted.coef_[0] / scaler.scale_
    return Gate(weights, np.array(fitted.intercept_[0] - weights @ scaler.mean_))


def folds(table: Table, seed: int) -> list[tuple[Ints, Ints]]:
    """Split sides into `FOLDS` folds that keep chats together; returns row numbers (rest, held out), ascending."""
    strata = 2 * table.game + table.labels
    split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(strata, strata, table.chat)
    return [(np.asarray(rest), np.asarray(held_out)) for rest, held_out in split]


_ngrams_of = lru_cache(maxsize=None)(word_ngrams)  # the same words occur again and again


def _ngram_counts(side: Side) -> sparse.csr_matrix:
    pairs = pair_ngrams(np.array([*map(word_hash, side.words)], np.uint64))
    buckets = [pairs[pairs < N_BUCKETS], *(_ngrams_of(word) for word in side.words if word != BOUNDARY)]
    columns, counts = np.unique(np.concatenate(buckets), return_counts=True)
    return sparse.csr_matrix((counts.astype(np.float64), (np.zeros(len(columns), int), columns)), (1, N_BUCKETS))
