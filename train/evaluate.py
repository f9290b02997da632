"""Measure the classifier on chats it was not fitted on: within an edition, on another edition, on another game.

Each model is asked in the ways in which the service is asked (`measure`): with complete chats, with complete chats of
another turn-taking, and message by message.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, permutations
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from models.chat import Chat
from models.classifier import CONFIDENCE, UNLIKE, Classifier
from models.features import Floats, Ints
from train.copies import last_answers, shift, so_far
from train.data import Edition
from train.fit import COMPLETE, FITS, FOLDS, SEED, Table, fit, folds

CLIP = 0.001  # probabilities are clipped to [CLIP, 1 - CLIP] for the log loss
AFTER = (1, 2, 4, 8, None)  # messages of a chat that is streamed; None: all of them
CROSS_FITS = FITS * FOLDS  # steps of `cross_fit`
BINS = 10  # of the calibration error, of equal width
SHIFT_SEEDS = (101, 102, 103)  # no training row is drawn with these
COMPLETE_CHATS = "complete chats"
SHIFTED_CHATS = "shifted turn-taking"


def streamed(after: int | None) -> str:
    """Return the name of a measurement of answers after so many messages."""
    return f"streamed, {after or 'all'} message{'' if after == 1 else 's'}"


@dataclass(frozen=True)
class Measured:
    """One measurement: how a model was asked, and what it answered.

    Arrays are (answers,): the labels, the probabilities, the number of messages in each answer's chat, and the home
    expert's share. `base` is the share of bots among the home game's participants that the model was fitted on.
    """

    on: str
    how: str
    labels: Ints
    probabilities: Floats
    messages: Ints
    home: Floats
    base: float

    def roc_auc(self) -> float:
        """Return the area under the ROC curve; NaN unless there are people and bots."""
        return float(roc_auc_score(self.labels, self.probabilities)) if self.has_both() else np.nan

    def has_both(self) -> bool:
        """Return whether there are people and bots among the answers."""
        return len(np.unique(self.labels)) > 1

    def log_loss(self) -> float:
        """Return the log loss in nats, with probabilities clipped at `CLIP`."""
        return clipped_log_loss(self.labels, self.probabilities)

    def row(self) -> dict[str, Any]:
        """Return the figures of this measurement."""
        right = (self.probabilities > 0.5) == self.labels
        likelier = np.maximum(self.probabilities, 1 - self.probabilities)
        confidence = {}
        below = np.inf
        for name, least in CONFIDENCE.items():
            chosen = (likelier >= least) & (likelier < below)
            below = least
            accuracy = round(float(right[chosen].mean()), 4) if chosen.any() else None
            confidence[name] = {
                "answers": int(chosen.sum()),
                "share": round(float(chosen.mean()), 4),
                "accuracy": accuracy,
            }
        return {
            "on": self.on,
            "how": self.how,
            "roc_auc": round(self.roc_auc(), 4) if self.has_both() else None,
            "log_loss": round(self.log_loss(), 4),
            "log_loss_of_base_rate": round(clipped_log_loss(self.labels, np.full(len(self.labels), self.base)), 4),
            "calibration_error": round(calibration_error(self.labels, self.probabilities), 4),
            "answers": len(self.labels),
            "confidence": confidence,
            "home": round(float(self.home.mean()), 4),
            "unlike": round(float((self.home < UNLIKE).mean()), 4),
        }


def clipped_log_loss(labels: Ints, probabilities: Floats) -> float:
    """Return the log loss in nats, with probabilities clipped at `CLIP`."""
    return float(log_loss(labels, np.clip(probabilities, CLIP, 1 - CLIP), labels=[0, 1]))


def calibration_error(labels: Ints, probabilities: Floats) -> float:
    """Return the expected calibration error over `BINS` bins of equal width (Naeini et al. 2015, AAAI)."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [
        abs(float(probabilities[bins == at].mean() - labels[bins == at].mean())) * float((bins == at).mean())
        for at in np.unique(bins)
    ]
    return sum(gaps)


def measure(classifier: Classifier, on: str, chats: Sequence[Chat], labels: Sequence[Sequence[int]]) -> list[Measured]:
    """Ask a classifier about labelled chats in every way, through the code that serves."""
    by_speaker = [
        dict(zip(last_answers(chat), of_chat, strict=True)) for chat, of_chat in zip(chats, labels, strict=True)
    ]
    base = float(classifier.weights.base)

    def ask(
        how: str, asked: Sequence[Chat], who: Sequence[int | str | None], known: Sequence[dict[Any, int]]
    ) -> Measured:
        """Ask about chats; `who` names the one participant of each chat whose answer counts, None all of them."""
        assessment = classifier.assess(asked)
        rows, truth, messages = [], [], []
        row = 0
        for chat, sides, one, speakers in zip(asked, assessment.sides, who, known, strict=True):
            for side in sides:
                if one is None or side.participant_id == one:
                    rows.append(row)
                    truth.append(speakers[side.participant_id])
                    messages.append(len(chat.messages))
                row += 1
        probabilities, home = assessment.probabilities[rows], assessment.home[rows]
        return Measured(on, how, np.array(truth), probabilities, np.array(messages), home, base)

    everybody = [None] * len(chats)
    measured = [ask(COMPLETE_CHATS, chats, everybody, by_speaker)]
    copies = [shift(c, np.random.default_rng([seed, n])) for seed in SHIFT_SEEDS for n, c in enumerate(chats)]
    measured.append(ask(SHIFTED_CHATS, copies, everybody * len(SHIFT_SEEDS), by_speaker * len(SHIFT_SEEDS)))
    for after in AFTER:
        moments = [
            (so_far(chat, number), speaker, speakers)
            for chat, speakers in zip(chats, by_speaker, strict=True)
            for speaker, number in last_answers(chat, after).items()
        ]
        measured.append(ask(streamed(after), *zip(*moments, strict=True)))
    return measured


def join(parts: Sequence[Measured]) -> Measured:
    """Return the measurements of several folds as one."""
    names = ("labels", "probabilities", "messages", "home")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    base = float(np.average([part.base for part in parts], weights=[len(part.labels) for part in parts]))
    return Measured(on=parts[0].on, how=parts[0].how, base=base, **arrays)


def cross_validated(edition: str) -> str:
    """Return the name of what is measured within an edition."""
    return f"{edition}, {FOLDS}-fold cross-validation"


def across(first: str, tested: str) -> str:
    """Return the name of what a model of one edition is measured on."""
    return f"trained on {first}, tested on {tested}"


def together(edition: str) -> str:
    """Return the name of what is measured on an edition by models that were fitted on all editions."""
    return f"{edition}, cross-validated with all editions"


def is_at_home(on: str) -> bool:
    """Return whether a measurement is one of the home game's chats with models that know their edition."""
    return "cross-validat" in on


def left_out(game: str) -> str:
    """Return the name of what is measured on a game that the model has not seen."""
    return f"{game}, left out"


def plan(home: Sequence[Edition], elsewhere: Sequence[Edition], table: Table) -> Iterator[tuple[str, Ints, Ints]]:
    """Yield each model to measure: the name of the measurement, the numbers of the chats to fit on, and to test on."""
    games = [np.unique(table.chat[table.game == game]) for game in range(len(home) + len(elsewhere))]
    others = games[len(home) :]
    for game, edition in enumerate(home):
        complete = table.take((table.game == game) & (table.kind == COMPLETE))
        for rest, held_out in folds(complete, SEED):
            fitted_on = np.concatenate([np.unique(complete.chat[rest]), *others])
            yield cross_validated(edition.name), fitted_on, np.unique(complete.chat[held_out])
    for first, tested in permutations(range(len(home)), 2):
        yield across(home[first].name, home[tested].name), np.concatenate([games[first], *others]), games[tested]
    for game, edition in enumerate(elsewhere, start=len(home)):
        seen = [chats for at, chats in enumerate(games) if at != game]
        yield left_out(edition.name), np.concatenate(seen), games[game]


def steps_of(home: int, elsewhere: int) -> int:
    """Return the number of steps that `evaluate` takes for so many editions and other games, for a progress bar."""
    return FITS * (FOLDS * home + home * (home - 1) + elsewhere)


def evaluate(
    home: Sequence[Edition], elsewhere: Sequence[Edition], table: Table, step: Callable[[], object] = lambda: None
) -> list[Measured]:
    """Cross-validate within each edition, test across editions, and test on each other game with a model without it.

    `table` is what `tabulate` makes of all of them. Other games are always part of the training data, except for the
    one that is tested.
    """
    chats = [chat for edition in (*home, *elsewhere) for chat in edition.chats]
    labels = [of_chat for edition in (*home, *elsewhere) for of_chat in edition.labels]
    measured = []
    for on, models in groupby(plan(home, elsewhere, table), key=lambda model: model[0]):
        parts = []
        for _, fitted_on, tested_on in models:
            fitted = fit(table.take(np.isin(table.chat, fitted_on)), step)
            classifier = Classifier(fitted.weights(), "measured")
            parts.append(measure(classifier, on, [chats[at] for at in tested_on], [labels[at] for at in tested_on]))
        measured += [join(of_how) for of_how in zip(*parts, strict=True)]
    return measured


def cross_fit(table: Table, step: Callable[[], object] = lambda: None) -> list[tuple[Classifier, Ints]]:
    """Fit one model for each fifth of the home game's chats, on everything else, as the shipped model is fitted.

    Returns each with the numbers of its fifth's chats. `table` is what `tabulate` makes of all editions and other
    games.
    """
    complete = table.take(table.home & (table.kind == COMPLETE))
    models = []
    for _, held_out in folds(complete, SEED):
        tested = np.unique(complete.chat[held_out])
        fitted = fit(table.take(~np.isin(table.chat, tested)), step)
        models.append((Classifier(fitted.weights(), "measured"), tested))
    return models


def evaluate_together(home: Sequence[Edition], models: Sequence[tuple[Classifier, Ints]]) -> list[Measured]:
    """Measure the models of `cross_fit` on each edition, each model on the chats that it was not fitted on."""
    measured = []
    first = 0  # number of the edition's first chat
    for edition in home:
        parts = []
        for classifier, tested in models:
            chosen = tested[(tested >= first) & (tested < first + len(edition.chats))] - first
            chats, labels = [edition.chats[at] for at in chosen], [edition.labels[at] for at in chosen]
            if chats:
                parts.append(measure(classifier, together(edition.name), chats, labels))
        measured += [join(of_how) for of_how in zip(*parts, strict=True)]
        first += len(edition.chats)
    return measured


def measure_on(classifier: Classifier, editions: Sequence[Edition]) -> list[Measured]:
    """Measure a classifier on labelled chats."""
    return [part for e in editions for part in measure(classifier, e.name, e.chats, e.labels)]
