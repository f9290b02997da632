"""Fit the classifier with scikit-learn, and turn it into the arrays that serving loads.

Stacking (Wolpert 1992, https://doi.org/10.1016/S0893-6080(05)80023-1): the linear models over n-grams are fitted first;
their scores of chats that they did not see, from inner folds, are inputs of the experts' trees. Whole chats are kept
together in every split, with all their copies, because both sides of a chat describe each other.

Data sets are games: those of the home game (You are Bot) and others. The home expert is fitted on the home game only,
the elsewhere expert on all games, each with the same weight.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from models.classifier import BOOSTED, log_odds, mix, to_probabilities
from models.features import (
    BOUNDARY,
    COUNTS,
    N_BUCKETS,
    TALK,
    Floats,
    Ints,
    Side,
    pair_ngrams,
    read_sides,
    word_counts,
    word_hash,
    word_ngrams,
)
from models.signals import GATE, LINEAR, RUNNING_DIALOG, SIGNALS, SITUATIONS, SUMS, combine, describe, situations
from models.trees import Trees
from models.weights import Gate, HomeExpert, Weights
from train.copies import assist, last_answers, lose, so_far, split
from train.data import Edition

SEED = 2026
FOLDS = 5
FITS = FOLDS + 1 + len(SITUATIONS) + 1  # steps of one `fit`: the linear models, then the experts

# Kinds of rows: complete chats; copies in which a bot says an assistant's stock phrase; copies with messages sent in
# two parts, of which the later ones also lost their last message, their first one, or both; running dialogs, from
# complete chats, from those without their first message, and from those with a stock phrase.
KINDS = 9
COMPLETE, ASSISTANT, SPLIT, NO_END, NO_BEGINNING, NEITHER, RUNNING, RUNNING_LATE, RUNNING_ASSISTANT = range(KINDS)
PREFIXES = 12  # dialogs are cut off after each of the first messages, up to so many, and at each one's last message


# The home expert's trees: the depth of boosted trees, and the least number of rows in a leaf of boosted trees and of
# randomised trees.
TREES = {"running dialog": (6, 20, 4), "strict turn-taking": (5, 25, 4), "free turn-taking": (5, 25, 4)}
# What a row weighs, in the order of the kinds, if its chat is of the expert's situation; and what a complete chat of
# another situation weighs. Where nobody writes twice in a row, copies are told from complete chats by nothing: their
# weights say how far to trust that the end of a chat is its end.
ASSISTANTS = 0.04
WEIGHTS = {
    "strict turn-taking": (1.0, ASSISTANTS, 0.0, 0.22, 0.25, 0.1),
    "free turn-taking": (1.0, ASSISTANTS, 1.0, 1.0, 0.3, 0.3),
}
# Weight of all running dialogs from a chat without its first message, beside 1 for those from the chat, and the least
# number of their messages: at the very start, who opened the dialog is most of what can be known.
LATE, LATE_LEAST = 0.25, 3
OTHER_SITUATION = {"strict turn-taking": 0.0, "free turn-taking": 0.1}
WEIGHTS_ELSEWHERE = (1.0, ASSISTANTS, 0.15, 0.15, 0.15, 0.15)

# Signals that the elsewhere expert does not see: who speaks when and how much, and the alphabet.
_HOME_ONLY = {
    *LINEAR[:2],
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
_OWN_NAMES = [name.removeprefix("the other one: ") for name in SIGNALS]
GENERAL = [at for at, name in enumerate(_OWN_NAMES) if name not in _HOME_ONLY]
AT_HOME = [at for at, name in enumerate(_OWN_NAMES) if name not in LINEAR[2:]]  # what the home expert sees
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
    labels: list[int] = []
    facts: list[tuple[int, int, int, int]] = []  # of each side: numbers of the row's chat, its original, game and kind
    number = 0
    for game, edition in enumerate([*home, *elsewhere]):
        for chat, of_chat in zip(edition.chats, edition.labels, strict=True):
            who = dict(zip(last_answers(chat), of_chat, strict=True))
            for kind, copy in copies(chat, number, who, running=game < len(home)):
                speakers = last_answers(copy)
                labels += [who[speaker] for speaker in speakers]
                facts += [(len(chats), number, game, kind)] * len(speakers)
                chats.append(copy)
            number += 1
    sides = [side for chat in chats for side in read_sides(chat)]
    group, original, of_game, kinds = np.array(facts).T
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
        chat=original,
        game=of_game,
        home=of_game < len(home),
        kind=kinds,
        asked=talk[:, TALK.index("has the last word")] == 1,
    )


def copies(chat: Chat, number: int, who: Mapping[int | str, int], *, running: bool) -> list[tuple[int, Chat]]:
    """Return a chat and its copies to train on, each with its kind.

    `who` holds the participants' labels, and `number` seeds what is drawn.
    """
    made = [(COMPLETE, chat)]
    for kind in (SPLIT, NO_END, NO_BEGINNING, NEITHER):
        draw = np.random.default_rng([SEED, kind, number])
        lost = lose(chat, beginning=kind in (NO_BEGINNING, NEITHER), end=kind in (NO_END, NEITHER))
        made.append((kind, split(lost, draw)))
    assisted = None
    if bots := [participant for participant, is_bot in who.items() if is_bot]:
        assisted, at = assist(chat, bots, np.random.default_rng([SEED, ASSISTANT, number]))
        made.append((ASSISTANT, assisted))
    if running:
        if assisted:
            made.append((RUNNING_ASSISTANT, so_far(assisted, at + 1)))
        for kind, whole, least in ((RUNNING, chat, 1), (RUNNING_LATE, lose(chat, beginning=True), LATE_LEAST)):
            cuts = {*range(1, min(len(whole.messages), PREFIXES) + 1), *last_answers(whole).values()}
            made += [(kind, so_far(whole, messages)) for messages in sorted(cuts) if messages >= least]
    return made


class LinearStage:
    """Two logistic regressions over both sides' n-grams: one for the home game, one for all games."""

    def fit(self, table: Table) -> "LinearStage":
        """Fit on a table of complete chats and of copies with stock phrases."""
        weights, idfs = [], []
        for part in (table.take(table.home), table):
            idf = TfidfTransformer(norm=None).fit(part.own).idf_
            regression = LogisticRegression(C=3.0, solver="liblinear", tol=0.01, random_state=SEED)
            design = sparse.hstack([_scaled(part.own, idf), _scaled(part.others, idf)])
            weight = np.where(part.kind == ASSISTANT, ASSISTANTS, 1.0)
            regression.fit(sparse.csr_matrix(design), part.labels, weight)
            bot = regression.coef_[0] * _sign(regression)
            weights += [bot[:N_BUCKETS] * idf, bot[N_BUCKETS:] * idf]
            idfs.append(idf)
        self.weights = np.array(weights, np.float32)
        self.idf = np.array(idfs, np.float32)
        return self

    def sums(self, table: Table) -> Floats:
        """Return the columns of `SUMS` for each side, (sides, len(SUMS))."""
        of_ngrams = np.concatenate([self.weights.astype(np.float64), self.idf.astype(np.float64) ** 2]).T
        return np.concatenate([table.own @ of_ngrams, table.words[:, None], table.counts], axis=1)


def _scaled(counts: sparse.csr_matrix, idf: Floats) -> sparse.csr_matrix:
    length = np.sqrt(counts @ idf**2 + 1)
    return sparse.csr_matrix(sparse.diags(1 / length) @ counts @ sparse.diags(idf))


@dataclass(frozen=True)
class FittedHome:
    """The home expert's trees for one situation."""

    boosted: GradientBoostingClassifier
    randomised: ExtraTreesClassifier

    def say(self, inputs: Floats) -> Floats:
        """Return the boosted trees' log odds and the randomised trees' probabilities, (2, sides)."""
        chosen = inputs[:, AT_HOME]
        boosted = _sign(self.boosted) * self.boosted.decision_function(chosen)
        return np.array([boosted, _of_bots(self.randomised, chosen)])

    def arrays(self) -> HomeExpert:
        """Return the arrays that serving loads."""
        boosted = self.boosted
        prior = boosted.init_.class_prior_[list(boosted.classes_).index(1)]
        rate = _sign(boosted) * boosted.learning_rate
        return HomeExpert(
            boosted=_trees([(t.tree_, rate * t.tree_.value[:, 0, 0]) for t in boosted.estimators_[:, 0]], AT_HOME),
            start=np.array(log_odds(prior)),
            randomised=_randomised_trees(self.randomised, AT_HOME),
        )


@dataclass(frozen=True)
class Fitted:
    """All fitted parts."""

    linear: LinearStage
    home: list[FittedHome]  # one for each of the `SITUATIONS`
    elsewhere: ExtraTreesClassifier
    general: list[int]  # the signals that it sees, numbers of `SIGNALS`
    gate: Gate
    base: float
    typical: Floats

    def predict(self, table: Table) -> Floats:
        """Return the probability of each side, (sides,), with scikit-learn's own predictions."""
        sums, sizes = self.linear.sums(table), table.sizes()
        inputs = combine(sums, table.talk, sizes)
        gate, words = describe(sums, table.talk, sizes)
        running = table.kind[np.cumsum(sizes) - 1] >= RUNNING
        situation = situations(gate, running)
        said = np.array([expert.say(inputs) for expert in self.home])
        boosted, randomised = said[situation.repeat(sizes), :, np.arange(len(inputs))].T
        elsewhere = _of_bots(self.elsewhere, inputs[:, self.general])
        share = np.array(BOOSTED)[situation].repeat(sizes)
        score = mix(boosted, randomised, elsewhere, self.gate.share(gate).repeat(sizes), share)
        return to_probabilities(score, sizes, gate, words, situation, self.base)

    def weights(self) -> Weights:
        """Return the arrays that serving loads."""
        running, strict, free = (expert.arrays() for expert in self.home)
        return Weights(
            linear=self.linear.weights,
            idf=self.linear.idf,
            running=running,
            strict=strict,
            free=free,
            elsewhere=_randomised_trees(self.elsewhere, self.general),
            gate=self.gate,
            base=np.array(self.base),
            typical=self.typical,
        )


def _sign(model: Any) -> int:
    """Return 1 where a model's score is that of bots, else -1."""
    return 1 if model.classes_[1] == 1 else -1


def _of_bots(model: Any, inputs: Floats) -> Floats:
    return np.asarray(model.predict_proba(inputs)[:, list(model.classes_).index(1)])


def _randomised_trees(forest: ExtraTreesClassifier, signals: Sequence[int]) -> Trees:
    bot = list(forest.classes_).index(1)
    return _trees([(tree.tree_, tree.tree_.value[:, 0, bot]) for tree in forest.estimators_], signals)


def _trees(grown: Sequence[tuple[Any, Floats]], signals: Sequence[int]) -> Trees:
    """Lay out scikit-learn's trees, whose inputs were these `signals`, with their nodes' values side by side.

    scikit-learn grows them depth first, so that a left child is the next node. Thresholds are rounded down to 32-bit
    floats, which does not change the comparison with a 32-bit float.
    """
    shape = (len(grown), max(tree.node_count for tree, _ in grown))
    feature, number, right = np.zeros(shape, np.uint8), np.zeros(shape, np.float32), np.zeros(shape, np.uint16)
    for row, (tree, of_nodes) in enumerate(grown):
        nodes = np.arange(tree.node_count)
        inner = tree.children_left > 0
        rounded = tree.threshold.astype(np.float32)
        rounded = np.where(rounded > tree.threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
        feature[row, nodes] = np.where(inner, np.array(signals)[tree.feature], 0)
        number[row, nodes] = np.where(inner, rounded, of_nodes)
        right[row, nodes] = np.where(inner, tree.children_right - nodes, 0)
    return Trees(feature, number, right)


def fit(table: Table, step: Callable[[], object] = lambda: None) -> Fitted:
    """Fit all parts on a table; `step` is called after each of the `FITS` steps."""
    complete = np.flatnonzero(table.kind == COMPLETE)
    of_complete, read = table.take(complete), table.take(table.kind <= ASSISTANT)
    sums = np.zeros((len(table.labels), len(SUMS)))

    def score_unread(chats: Ints) -> tuple[NDArray[np.bool_], Floats]:
        """Return the rows of some chats, as a mask, and their sums, by linear models that have not read the chats."""
        rows = np.isin(table.chat, chats)
        return rows, LinearStage().fit(read.take(~np.isin(read.chat, chats))).sums(table.take(rows))

    held_out = [of_complete.chat[rows] for _, rows in folds(of_complete, SEED + 1)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # liblinear runs without Python's lock
        for rows, of_rows in threads.map(score_unread, held_out):
            sums[rows] = of_rows
            step()
    linear = LinearStage().fit(read)
    step()
    sizes = table.sizes()
    inputs = combine(sums, table.talk, sizes)
    gate, _ = describe(sums, table.talk, sizes)
    turns = situations(gate, np.zeros(len(gate), np.bool_)).repeat(sizes)
    home = []
    for situation in SITUATIONS:
        weights = _home_weights(table, turns, situation)
        home.append(_fit_home(inputs[:, AT_HOME], table.labels, weights, *TREES[situation]))
        step()
    weights = _elsewhere_weights(table)
    weighing, general = np.flatnonzero(weights), _general(inputs[complete], of_complete)
    elsewhere = _randomised(44, depth=8, leaf=10)
    elsewhere.fit(inputs[weighing][:, general], table.labels[weighing], weights[weighing])
    step()
    of_home = inputs[complete][of_complete.home]
    base = float(of_complete.labels[of_complete.home].mean())
    return Fitted(linear, home, elsewhere, general, _fit_gate(gate, table), base, of_home.mean(axis=0))


def _home_weights(table: Table, turns: Ints, situation: str) -> Floats:
    """Return how much each row weighs when the home expert is fitted for a situation, (sides,).

    `turns` (sides,) is the number of a row's turn-taking in `SITUATIONS`.
    """
    if situation == SITUATIONS[RUNNING_DIALOG]:
        weights = ASSISTANTS * (table.kind == RUNNING_ASSISTANT)
        for kind, weight in ((RUNNING, 1.0), (RUNNING_LATE, LATE)):
            chosen = table.asked & (table.kind == kind)
            asked = np.bincount(table.chat[chosen], minlength=table.chat.max() + 1)  # how often, in this chat
            weights += weight * chosen / np.maximum(asked, 1)[table.chat]
        return np.asarray(np.where(table.home & table.asked, weights, 0))
    of_kind = _of_kinds(WEIGHTS[situation])[table.kind]
    others = np.where(table.kind == COMPLETE, OTHER_SITUATION[situation], 0)
    return np.asarray(np.where(table.home, np.where(turns == SITUATIONS.index(situation), of_kind, others), 0))


def _of_kinds(of_complete: Sequence[float]) -> Floats:
    """Return weights for all kinds of rows, from those for complete chats; running dialogs get none."""
    return np.array([*of_complete, *[0.0] * (KINDS - len(of_complete))])


def _elsewhere_weights(table: Table) -> Floats:
    """Return how much each row weighs in the elsewhere expert, (sides,): every game as much as any other."""
    weights = _of_kinds(WEIGHTS_ELSEWHERE)[table.kind]
    of_games = np.bincount(table.game, weights)[table.game]
    return np.asarray(weights / of_games * weights.sum() / len(np.unique(table.game)))


def _fit_home(inputs: Floats, labels: Ints, weights: Floats, depth: int, leaf: int, randomised_leaf: int) -> FittedHome:
    rows = np.flatnonzero(weights)
    inputs, labels, weights = inputs[rows], labels[rows], weights[rows]
    boosted = GradientBoostingClassifier(
        n_estimators=300,
        learning_rate=0.05,
        max_depth=depth,
        subsample=0.5,
        max_features=0.1,
        min_samples_leaf=leaf,
        random_state=SEED,
    )
    randomised = _randomised(76, depth=12, leaf=randomised_leaf)
    return FittedHome(boosted.fit(inputs, labels, weights), randomised.fit(inputs, labels, weights))


def _randomised(trees: int, depth: int, leaf: int) -> ExtraTreesClassifier:
    return ExtraTreesClassifier(
        n_estimators=trees, max_depth=depth, max_features=0.5, min_samples_leaf=leaf, random_state=SEED
    )


def _general(inputs: Floats, table: Table) -> list[int]:
    """Return the general signals that point the same way in all games, as numbers of `SIGNALS`.

    `inputs` and `table` are those of the complete chats.
    """
    found = []
    for signal in GENERAL:
        areas = []
        for game in np.unique(table.game):
            rows = table.game == game
            if len(np.unique(table.labels[rows])) > 1:
                areas.append(roc_auc_score(table.labels[rows], inputs[rows, signal]) - 0.5)
        if min(areas) > SAME_WAY or max(areas) < -SAME_WAY:
            found.append(signal)
    return found


def _fit_gate(inputs: Floats, table: Table) -> Gate:
    """Fit the gate on one row for each chat and shifted copy, both kinds of games weighing the same."""
    first = np.flatnonzero(np.diff(table.group, prepend=-1))
    chosen = table.kind[first] < RUNNING
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
