"""Measure the classifier on chats it was not fitted on: within all editions, on another edition, on another game.

Each model is asked in the ways in which the service is asked (`measure`): with finished chats of the home game, with
whole chats of which nothing is said, with those in another turn-taking, and message by message.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from models.chat import Chat, Confidence
from models.classifier import Classifier
from models.features import Floats, Ints
from train.copies import excerpt, last_answers, split
from train.data import Edition
from train.fit import FOLDS, SEED, Fitted, Table, fit, folds

CLIP = 0.001  # probabilities are clipped to [CLIP, 1 - CLIP] for the log loss
AFTER = (1, 2, 4, 8, None)  # messages of a chat that is streamed; None: all of them
BINS = 10  # of the calibration error, of equal width
SHIFT_SEEDS = (101, 102, 103)  # no training row is drawn with these
LOST = 0.5  # share of the shifted chats that lose their last message
# Data sets belong to one game if the larger one has this share of the smaller one's messages of so many characters.
SHARED = 0.1
LONG_TEXT = 30
FINISHED_CHATS = "finished chats"
WHOLE_CHATS = "whole chats"
WITHOUT_LAST = "whole chats without their last message"
SHIFTED_CHATS = "shifted turn-taking"
CROSS_VALIDATION = f"{FOLDS}-fold cross-validation"
FEW_BOTS = 0.02  # expected share of bots where there are hardly any


def streamed(after: int | None) -> str:
    """Return the name of a measurement of answers after so many messages."""
    return f"streamed, {after or 'all'} message{'' if after == 1 else 's'}"


@dataclass(frozen=True)
class Measured:
    """One measurement: how a model was asked, and what it answered.

    Arrays are (answers,): the labels, the probabilities, the confidences, and the number of messages in each answer's
    chat. `base` is the share of bots among the home game's participants that the model was fitted on.
    """

    on: str
    how: str
    labels: Ints
    probabilities: Floats
    confidences: NDArray[np.str_]
    messages: Ints
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
        confidence = {}
        for name in get_args(Confidence):
            chosen = self.confidences == name
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
            "called_bots": round(float((self.probabilities > 0.5).mean()), 4),
            "answers": len(self.labels),
            "wrong_high": int(((self.confidences == "high") & ~right).sum()),
            "confidence": confidence,
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


@dataclass(frozen=True)
class Question:
    """A chat to ask about: the participants' labels, and the one whose answer counts (None: everybody's)."""

    chat: Chat
    who: Mapping[int | str, int]
    asked: int | str | None = None


def ask(
    classifier: Classifier, on: str, how: str, questions: Sequence[Question], share: float | None = None
) -> Measured:
    """Ask a classifier, through the code that serves; `share` is the expected share of bots."""
    answers = classifier.predict([question.chat for question in questions], share)
    given = [
        (question.who[side.participant_id], side.is_bot_probability, side.confidence, len(question.chat.messages))
        for question, answer in zip(questions, answers, strict=True)
        for side in answer.participants
        if question.asked is None or question.asked == side.participant_id
    ]
    labels, probabilities, confidences, messages = map(np.array, zip(*given, strict=True))
    return Measured(on, how, labels, probabilities, confidences, messages, classifier.weights.base)


def _questions(chats: Sequence[Chat], labels: Sequence[Sequence[int]]) -> list[Question]:
    pairs = zip(chats, labels, strict=True)
    return [Question(chat, dict(zip(last_answers(chat), of_chat, strict=True))) for chat, of_chat in pairs]


def measure(
    classifier: Classifier, on: str, chats: Sequence[Chat], labels: Sequence[Sequence[int]], *, finished: bool
) -> list[Measured]:
    """Ask a classifier about labelled chats in every way; `finished` says that they are recordings of the home game."""
    whole = _questions(chats, labels)
    ways: dict[str, list[Question]] = {}
    if finished:
        ways[FINISHED_CHATS] = [Question(q.chat.model_copy(update={"finished": True}), q.who) for q in whole]
    ways[WHOLE_CHATS] = whole
    ways[SHIFTED_CHATS] = [
        Question(shift(question.chat, np.random.default_rng([seed, number])), question.who)
        for seed in SHIFT_SEEDS
        for number, question in enumerate(whole)
    ]
    for after in AFTER:
        ways[streamed(after)] = [
            Question(excerpt(question.chat, end=number), question.who, speaker)
            for question in whole
            for speaker, number in last_answers(question.chat, after).items()
        ]
    return [ask(classifier, on, how, questions) for how, questions in ways.items()]


def shift(chat: Chat, draw: np.random.Generator) -> Chat:
    """Return the chat with another turn-taking: its end may be lost, and messages may be sent in two parts."""
    return split(excerpt(chat, end=-1 if draw.random() < LOST else None), draw)


def measure_people(classifier: Classifier, edition: Edition) -> list[Measured]:
    """Ask a classifier about chats in which nobody is a bot: with them, without their last messages, expecting few."""
    whole = _questions(edition.chats, edition.labels)
    cut = [Question(excerpt(question.chat, end=-1), question.who) for question in whole]
    return [
        ask(classifier, edition.name, WHOLE_CHATS, whole),
        ask(classifier, edition.name, WITHOUT_LAST, cut),
        ask(classifier, edition.name, few_bots(), whole, FEW_BOTS),
    ]


def few_bots() -> str:
    """Return the name of a measurement where hardly any bots are expected."""
    return f"whole chats, {FEW_BOTS:.0%} bots expected"


def join(parts: Sequence[Measured]) -> Measured:
    """Return the measurements of several folds as one."""
    names = ("labels", "probabilities", "confidences", "messages")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    base = float(np.average([part.base for part in parts], weights=[len(part.labels) for part in parts]))
    return Measured(on=parts[0].on, how=parts[0].how, base=base, **arrays)


def cross_validated(edition: str) -> str:
    """Return the name of what is measured on an edition by models that were fitted on parts of all editions."""
    return f"{edition}, {CROSS_VALIDATION}"


def across(first: str, tested: str) -> str:
    """Return the name of what a model of one edition is measured on."""
    return f"trained on {first}, tested on {tested}"


def is_at_home(on: str) -> bool:
    """Return whether a measurement is one of the home game's chats with models that know their edition."""
    return on.endswith(CROSS_VALIDATION)


def left_out(game: str) -> str:
    """Return the name of what is measured on a game that the model has not seen."""
    return f"{game}, left out"


@dataclass(frozen=True)
class Step:
    """A model to fit and to measure: numbers of the chats to fit on and to test on, and what the test is called.

    `names` holds the name of the measurement for the number of each data set that is tested.
    """

    fitted_on: Ints
    tested_on: Ints
    names: Mapping[int, str]


def games_of(editions: Sequence[Edition]) -> list[list[int]]:
    """Return the numbers of the data sets in groups: those that share many long messages belong to one game."""
    said = [{m.text for chat in e.chats for m in chat.messages if len(m.text) >= LONG_TEXT} for e in editions]
    groups: list[list[int]] = []
    for number, texts in enumerate(said):
        for group in groups:
            if any(len(texts & said[other]) > SHARED * min(len(texts), len(said[other])) for other in group):
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def plan(home: Sequence[Edition], elsewhere: Sequence[Edition], table: Table) -> list[Step]:
    """Return each model to measure; those of the cross-validation come first, one for each of the folds.

    `table` is what `tabulate` makes of all data sets. Other games are always part of the training data, except for the
    one that is tested.
    """
    everything = np.unique(table.chat)
    game_of = dict(zip(table.chat.tolist(), table.game.tolist(), strict=True))
    game = np.array([game_of[chat] for chat in everything.tolist()])
    within = {number: cross_validated(edition.name) for number, edition in enumerate(home)}
    steps = [
        Step(np.setdiff1d(everything, held_out), held_out, within)
        for held_out in folds(table.take(table.whole & table.home), SEED)
    ]
    for fitted, tested in permutations(range(len(home)), 2):
        seen = (game == fitted) | (game >= len(home))
        steps.append(
            Step(everything[seen], everything[game == tested], {tested: across(home[fitted].name, home[tested].name)})
        )
    for group in games_of(elsewhere):
        names = {len(home) + number: left_out(elsewhere[number].name) for number in group}
        tested_on = np.isin(game, list(names))
        steps.append(Step(everything[~tested_on], everything[tested_on], names))
    return steps


def count_models(home: Sequence[Edition], elsewhere: Sequence[Edition]) -> int:
    """Return how many models are fitted: those of `plan`, and the one of all data."""
    return FOLDS + len(home) * (len(home) - 1) + len(games_of(elsewhere)) + 1


def fit_all(table: Table, parts: Sequence[Ints], step: Callable[[], object] = lambda: None) -> list[Fitted]:
    """Fit a model on each of these parts of a table (numbers of chats), several at a time."""

    def fit_one(part: Ints) -> Fitted:
        fitted = fit(table.take(np.isin(table.chat, part)))
        step()
        return fitted

    # one thread for each product, because their number decides the last bits; scikit-learn fits without Python's lock
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(fit_one, parts))


def evaluate(
    home: Sequence[Edition], elsewhere: Sequence[Edition], steps: Sequence[Step], models: Sequence[Classifier]
) -> list[Measured]:
    """Measure the models that were fitted for the steps of `plan`, each on the chats that it has not seen."""
    editions = [*home, *elsewhere]
    first = np.cumsum([0, *(len(edition.chats) for edition in editions)])
    measured: dict[tuple[str, str], list[Measured]] = {}
    for step, classifier in zip(steps, models, strict=True):
        for number, on in step.names.items():
            edition = editions[number]
            chosen = np.intersect1d(step.tested_on, np.arange(first[number], first[number + 1])) - first[number]
            if len(chosen):
                chats, labels = [edition.chats[at] for at in chosen], [edition.labels[at] for at in chosen]
                for part in measure(classifier, on, chats, labels, finished=number < len(home)):
                    measured.setdefault((part.on, part.how), []).append(part)
    return [join(parts) for parts in measured.values()]
