"""Measure the classifier on chats it was not fitted on: inside each edition, from one edition to another, elsewhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from models.classifier import CONFIDENCE, Classifier, Floats
from train.data import Edition
from train.fit import FITS, FOLDS, SEED, Ints, Table, fit, folds

CLIP = 0.001  # probabilities are clipped to [CLIP, 1 - CLIP] for the log loss
AFTER = (1, 2, 4, 8, None)  # messages of a chat that is told one by one
BINS = 10  # of the calibration error, of equal width


@dataclass(frozen=True)
class Measured:
    """One measurement: the labels and the probabilities, (sides,), and the number of messages in each side's chat.

    `base` is the share of bots in the data that the model was fitted on.
    """

    on: str
    labels: Ints
    probabilities: Floats
    messages: Ints
    base: float
    so_far: dict[str, tuple[Ints, Floats]] | None = None  # labels and probabilities after the first messages

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
            confidence[name] = {"share": round(float(chosen.mean()), 4), "accuracy": accuracy}
        return {
            "on": self.on,
            "roc_auc": round(float(roc_auc_score(self.labels, self.probabilities)), 4),
            "log_loss": round(clipped_log_loss(self.labels, self.probabilities), 4),
            "log_loss_of_base_rate": round(clipped_log_loss(self.labels, np.full(len(self.labels), self.base)), 4),
            "calibration_error": round(calibration_error(self.labels, self.probabilities), 4),
            "participants": len(self.labels),
            "confidence": confidence,
        } | ({"so_far": self.rows_so_far()} if self.so_far else {})

    def rows_so_far(self) -> list[dict[str, Any]]:
        """Return the figures after the first messages of each chat."""
        return [
            {
                "messages": after,
                "roc_auc": round(float(roc_auc_score(labels, probabilities)), 4),
                "log_loss": round(clipped_log_loss(labels, probabilities), 4),
                "participants": len(labels),
            }
            for after, (labels, probabilities) in (self.so_far or {}).items()
        ]


def clipped_log_loss(labels: Ints, probabilities: Floats) -> float:
    """Return the log loss in nats, with probabilities clipped at `CLIP`."""
    return float(log_loss(labels, np.clip(probabilities, CLIP, 1 - CLIP)))


def calibration_error(labels: Ints, probabilities: Floats) -> float:
    """Return the expected calibration error over `BINS` bins of equal width (Naeini et al. 2015, AAAI)."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [
        abs(float(probabilities[bins == at].mean() - labels[bins == at].mean())) * float((bins == at).mean())
        for at in np.unique(bins)
    ]
    return sum(gaps)


def steps_of(editions: Sequence[Edition]) -> int:
    """Return the number of fits that `evaluate` makes, for a progress bar."""
    return FITS * (FOLDS * len(editions) + len(editions) * (len(editions) - 1))


def evaluate(
    editions: Sequence[Edition],
    tables: Sequence[tuple[Table, Ints]],
    step: Callable[[], object] = lambda: None,
) -> list[Measured]:
    """Cross-validate on each edition and test each edition's model on every other one."""
    measured = []
    for edition, (table, labels) in zip(editions, tables, strict=True):
        probabilities = np.zeros(len(labels))
        replayed = []
        for rest, held_out in folds(labels, table.group, SEED):
            fitted = fit(table.take(rest), labels[rest], step)
            probabilities[held_out] = fitted.predict(table.take(held_out))
            replayed.append(replay(Classifier(fitted.weights(), "fold"), edition, np.unique(table.group[held_out])))
        on = f"{edition.name}, {FOLDS}-fold cross-validation"
        base = float(labels.mean())
        measured.append(Measured(on, labels, probabilities, _messages(edition), base, _join(replayed)))
    for first, tested in permutations(range(len(editions)), 2):
        table, labels = tables[tested]
        model = fit(*tables[first], step)
        on = f"trained on {editions[first].name}, tested on {editions[tested].name}"
        measured.append(Measured(on, labels, model.predict(table), _messages(editions[tested]), model.base))
    return measured


def replay(classifier: Classifier, edition: Edition, chosen: Ints) -> dict[str, tuple[Ints, Floats]]:
    """Score chats, by their numbers, as the platform tells them: after so many messages, for who has spoken by then.

    Returns labels and probabilities by the number of messages; chats that are shorter count with all they have.
    """
    told = {}
    for after in AFTER:
        chats = [edition.chats[at].model_copy(update={"messages": edition.chats[at].messages[:after]}) for at in chosen]
        labels, probabilities = [], []
        for at, answer in zip(chosen, classifier.predict(chats), strict=True):
            labels += edition.labels[at][: len(answer.participants)]
            probabilities += [side.is_bot_probability for side in answer.participants]
        told["all" if after is None else str(after)] = (np.array(labels), np.array(probabilities))
    return told


def _join(parts: Sequence[dict[str, tuple[Ints, Floats]]]) -> dict[str, tuple[Ints, Floats]]:
    return {
        after: (
            np.concatenate([part[after][0] for part in parts]),
            np.concatenate([part[after][1] for part in parts]),
        )
        for after in parts[0]
    }


def measure_on(classifier: Classifier, editions: Sequence[Edition]) -> list[Measured]:
    """Test a classifier, as it is served, on labelled chats."""
    base = float(classifier.weights.base)
    return [
        Measured(
            edition.name,
            np.array([label for of_chat in edition.labels for label in of_chat]),
            np.array(
                [
                    side.is_bot_probability
                    for answer in classifier.predict(edition.chats)
                    for side in answer.participants
                ]
            ),
            _messages(edition),
            base,
        )
        for edition in editions
    ]


def _messages(edition: Edition) -> Ints:
    sizes = [len(of_chat) for of_chat in edition.labels]
    return np.array([len(chat.messages) for chat in edition.chats]).repeat(sizes)
