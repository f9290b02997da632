"""What is normal: how signals and answers are distributed over chats of the game that the model was not fitted on.

`python -m train drift` compares a monitoring log with it. It is a small file beside the artifact: shares by bins, no
texts. All of it comes from cross-validation, because a model is surer of the chats that it was fitted on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np

from models.chat import Chat
from models.classifier import Assessment, Classifier, confidence_of
from models.features import Floats, Ints
from models.signals import OWN
from models.weights import current
from records.monitoring_log import CONFIDENCES, logged, own_signals
from train.copies import excerpt
from train.data import DataError, Edition
from train.evaluate import Step

REFERENCE = "reference.npz"
AFTER = 4  # a dialog is looked at when it has so many messages, which happens once
CHATS, FINISHED, DIALOGS = "chats", "finished chats", f"dialogs after {AFTER} messages"
KINDS = (CHATS, FINISHED, DIALOGS)
VALUES = (*OWN, "score")  # the score does not depend on the expected share of bots, as probabilities do
BINS = 10  # of a value, as far as it has so many different ones
EDGES = 2 * BINS  # of its bins at most: a frequent value takes two
STEP = 0.00005  # half of the last digit in the log


@dataclass(frozen=True)
class Sample:
    """Participants of some chats.

    `chat` (rows,) is the number of the chat, `values` (rows, len(VALUES)). `confidences` (rows, len(CONFIDENCES)) says
    which one the answer has, as 0 and 1.
    """

    chat: Ints
    values: Floats
    confidences: Floats

    @classmethod
    def of(cls, classifier: Classifier, assessment: Assessment) -> Self:
        """Return what the monitoring log would hold of a classifier's assessment."""
        chat = np.repeat(np.arange(len(assessment.sides)), [len(sides) for sides in assessment.sides])
        values = np.column_stack([logged(own_signals(assessment)), assessment.score.round(4)])
        rules = classifier.weights.rules
        return cls(chat, values, one_hot([confidence_of(value, rules) for value in assessment.certainties.tolist()]))

    def take(self, chats: Ints) -> "Sample":
        """Return the participants of these chats (numbers, each once)."""
        rows = np.isin(self.chat, chats)
        return Sample(self.chat[rows], self.values[rows], self.confidences[rows])

    def chats(self) -> Ints:
        """Return the numbers of the chats."""
        return np.unique(self.chat)


def one_hot(confidences: Sequence[str]) -> Floats:
    """Return which of `CONFIDENCES` each one is, as 0 and 1, (rows, len(CONFIDENCES))."""
    return np.array([[name == one for name in CONFIDENCES] for one in confidences], float).reshape(-1, len(CONFIDENCES))


def join(samples: Sequence[Sample]) -> Sample:
    """Return several samples as one, each chat with a number of its own."""
    first = np.cumsum([0, *(sample.chat.max(initial=-1) + 1 for sample in samples)])
    chat = [sample.chat + start for sample, start in zip(samples, first, strict=False)]
    values = np.concatenate([sample.values for sample in samples])
    return Sample(np.concatenate(chat), values, np.concatenate([sample.confidences for sample in samples]))


@dataclass(frozen=True)
class Distribution:
    """The distribution of one kind of chats.

    `edges` (len(VALUES), EDGES), ascending and filled up with infinity, cut the values into EDGES + 1 bins; one at an
    edge is above it. `shares` (len(VALUES), EDGES + 1) is the part of the participants in each bin, `confidences`
    (len(CONFIDENCES),) that of each confidence. `chats` counts them.
    """

    edges: Floats
    shares: Floats
    confidences: Floats
    chats: Ints

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """Return the distribution of a sample.

        Bins hold the same number of its participants, and a value that fills more than one has a bin of its own. An
        empty sample, as of dialogs where no chat is that long, is all zeros.
        """
        edges = np.full((len(VALUES), EDGES), np.inf)
        if not len(sample.chat):
            return cls(edges, np.zeros((len(VALUES), EDGES + 1)), np.zeros(len(CONFIDENCES)), np.array(0))
        for at, column in enumerate(sample.values.T):
            cuts = np.unique(np.quantile(column, np.arange(BINS) / BINS, method="higher"))
            frequent = [cut for cut in cuts if np.mean(column == cut) > 1 / BINS]
            cuts = np.union1d(cuts, np.add(frequent, STEP))
            edges[at, : len(cuts)] = cuts
        shares = bin_counts(sample, edges).sum(axis=0).reshape(len(VALUES), -1) / len(sample.chat)
        return cls(edges, shares, sample.confidences.mean(axis=0), np.array(len(sample.chats())))


def bin_counts(sample: Sample, edges: Floats) -> Floats:
    """Return how many participants of each chat fall into each bin, (chats, len(VALUES) * bins)."""
    chats, number = np.unique(sample.chat, return_inverse=True)
    bins = edges.shape[1] + 1
    counts = np.zeros((len(chats), len(edges), bins), np.float32)
    for at, (cuts, column) in enumerate(zip(edges, sample.values.T, strict=True)):
        np.add.at(counts[:, at], (number, np.searchsorted(cuts, column, side="right")), 1)
    return counts.reshape(len(chats), -1)


@dataclass(frozen=True)
class Reference:
    """What is normal for a version of the model, by kind of chats."""

    version: str
    of_kind: Mapping[str, Distribution]

    @classmethod
    def of(cls, version: str, samples: Mapping[str, Sample]) -> Self:
        """Return what is normal for a version of the model, from what `cross_assess` returns."""
        return cls(version, {kind: Distribution.of(sample) for kind, sample in samples.items()})

    def write(self, folder: Path) -> None:
        """Write it to a folder."""
        arrays = {f"{kind}.{name}": value for kind in KINDS for name, value in vars(self.of_kind[kind]).items()}
        np.savez_compressed(folder / REFERENCE, version=np.array(self.version), **arrays)

    @classmethod
    def load(cls, folder: Path, version: str) -> Self:
        """Load the reference of a model folder; raises `DataError` if it cannot be used with this version."""
        file = current(folder, REFERENCE)
        how = "`python -m train reference` makes it from the training data"
        try:
            with np.load(file, allow_pickle=False) as arrays:
                found = str(arrays["version"])
                of_kind = {
                    kind: Distribution(**{name: arrays[f"{kind}.{name}"] for name in Distribution.__annotations__})
                    for kind in KINDS
                }
        except OSError as error:
            raise DataError(f"{file}: {error.strerror}; {how}") from None
        except (ValueError, KeyError, EOFError, BadZipFile) as error:
            raise DataError(f"{file}: cannot be read: {error!r}") from None
        if found != version:
            raise DataError(f"{file}: belongs to model {found}, not to {version}; {how}")
        if any(kind.edges.shape != (len(VALUES), EDGES) for kind in of_kind.values()):
            raise DataError(f"{file}: has other values or bins; {how}")
        return cls(found, of_kind)


def cross_assess(home: Sequence[Edition], steps: Sequence[Step], models: Sequence[Classifier]) -> dict[str, Sample]:
    """Return a sample of each kind from the home game's chats, each assessed by the model that was not fitted on it.

    `steps` and `models` are those of the cross-validation.
    """
    chats = [chat for edition in home for chat in edition.chats]
    parts: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
    for step, classifier in zip(steps, models, strict=True):
        for kind, sample in assess_kinds(classifier, [chats[at] for at in step.tested_on]).items():
            parts[kind].append(sample)
    return {kind: join(of_kind) for kind, of_kind in parts.items()}


def assess_kinds(classifier: Classifier, chats: Sequence[Chat]) -> dict[str, Sample]:
    """Assess chats as they are, as finished ones, and as dialogs after `AFTER` messages if they have so many."""
    asked: dict[str, Sequence[Chat]] = {
        CHATS: chats,
        FINISHED: [chat.model_copy(update={"finished": True}) for chat in chats],
        DIALOGS: [excerpt(chat, end=AFTER) for chat in chats if len(chat.messages) >= AFTER],
    }
    empty = Sample(np.empty(0, int), np.empty((0, len(VALUES))), one_hot([]))
    return {
        kind: Sample.of(classifier, classifier.assess(of_kind)) if of_kind else empty for kind, of_kind in asked.items()
    }
