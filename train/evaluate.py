"""Measure the classifier on chats it was not fitted on: inside each edition, and from one edition to another."""

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from train.data import Edition
from train.fit import FITS, FOLDS, SEED, Table, fit, folds

CLIP = 0.001  # probabilities are clipped to [CLIP, 1 - CLIP] for the log loss


def steps_of(editions: Sequence[Edition]) -> int:
    """Return the number of fits that `evaluate` makes, for a progress bar."""
    return FITS * (FOLDS * len(editions) + len(editions) * (len(editions) - 1))


def evaluate(
    editions: Sequence[Edition],
    tables: Sequence[tuple[Table, NDArray[np.int64]]],
    step: Callable[[], object] = lambda: None,
) -> list[dict[str, Any]]:
    """Cross-validate on each edition and test each edition's model on every other one.

    Returns one row for each measurement: what was measured `on`, `roc_auc`, `log_loss`, `participants`.
    """
    rows = []
    for edition, (table, labels) in zip(editions, tables, strict=True):
        probabilities = np.zeros(len(labels))
        for rest, held_out in folds(labels, table.group, SEED):
            probabilities[held_out] = fit(table.take(rest), labels[rest], step).predict(table.take(held_out))
        rows.append({"on": f"{edition.name}, {FOLDS}-fold cross-validation", **measure(labels, probabilities)})
    for fitted, tested in permutations(range(len(editions)), 2):
        table, labels = tables[tested]
        probabilities = fit(*tables[fitted], step).predict(table)
        on = f"trained on {editions[fitted].name}, tested on {editions[tested].name}"
        rows.append({"on": on, **measure(labels, probabilities)})
    return rows


def measure(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Return ROC AUC, log loss in nats with probabilities clipped at `CLIP`, and the number of participants."""
    return {
        "roc_auc": round(float(roc_auc_score(labels, probabilities)), 4),
        "log_loss": round(float(log_loss(labels, np.clip(probabilities, CLIP, 1 - CLIP))), 4),
        "participants": len(labels),
    }
