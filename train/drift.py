"""Drift: compare the traffic of a monitoring log with what is normal (`train/reference.py`).

The measure is the population stability index (Siddiqi 2006, Credit Risk Scorecards): over the bins of a value, the sum
of (share in the traffic - share in the reference) * log of their ratio. Above 0.1 it is usually taken for a change,
above 0.25 for a large one. Its interval comes from resampling the traffic by whole chats, because the participants of a
chat describe each other, and the reference as if each of its chats had one participant. It is the basic bootstrap
interval (Davison and Hinkley 1997, 5.2), which also corrects the index's bias: in few chats it is large by chance.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from models.features import Floats
from models.weights import FORMAT
from models.words import words_for
from records.monitoring_log import CONFIDENCES, Kind
from train.data import DataError
from train.reference import (
    AFTER,
    CHATS,
    DIALOGS,
    FINISHED,
    KINDS,
    VALUES,
    Distribution,
    Reference,
    Sample,
    bin_counts,
    one_hot,
)
from train.report import ACCENT, INK, QUIET, page, pictures, table

# A value has drifted if its whole interval is above this. Chosen on two editions of the game: with 0.1, dialogs that
# had changed went unnoticed, and false alarms were about as rare.
CHANGED = 0.05
USUAL = (0.1, 0.25)  # what is usually taken for a change, and for a large one
LEVEL = 0.99  # of the intervals
RESAMPLES = 400
LEAST_CHATS = 100  # fewer say nothing
MOST_CHATS = 20_000  # of a kind; more do not make the intervals noticeably narrower
SEED = 2026
_SHOWN = 16  # values in the picture
_IN_LOG: dict[Kind, str] = {"chat": CHATS, "finished": FINISHED, "dialog": DIALOGS}


@dataclass(frozen=True)
class Log:
    """What was read: samples by kind, the first and the last minute, lines left out by reason, and lost."""

    samples: dict[str, Sample]
    first: str
    last: str
    skipped: dict[str, int]
    lost: int


@dataclass(frozen=True)
class Comparison:
    """One kind of chats in the traffic, beside the reference.

    `index`, `low` and `high` (len(VALUES),): population stability index, corrected for its bias, and its interval.
    `confidences` (len(CONFIDENCES), 3): share in the traffic, and its interval.
    """

    kind: str
    chats: int
    index: Floats
    low: Floats
    high: Floats
    confidences: Floats
    normal: Distribution

    def drifted(self) -> list[str]:
        """Return the values that have changed, the most changed first."""
        order = np.argsort(-self.low, kind="stable")
        return [VALUES[at] for at in order if self.low[at] > CHANGED]


def read_log(paths: Sequence[Path], version: str) -> Log:
    """Read files of a monitoring log, or all of a folder; raises `DataError` if there is no line of this version."""
    files = []
    for path in paths:
        found = sorted(path.glob("predictions.*.jsonl*")) if path.is_dir() else [path]
        if not found:
            raise DataError(f"{path}: no monitoring log in this folder")
        files += found
    rows: dict[str, list[tuple[int, list[float], str]]] = {kind: [] for kind in KINDS}
    chats: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    lost = 0
    times = []
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                    if "lost" in entry:
                        lost += int(entry["lost"])
                        continue
                    kind = _IN_LOG[entry["kind"]]
                    if (entry["model"], entry["format"]) != (version, FORMAT):
                        skipped["of another model"] += 1
                        continue
                    if kind == DIALOGS and entry["messages"] != AFTER:
                        skipped[f"of a dialog with more or less than {AFTER} messages"] += 1
                        continue
                    answers = [_answer(side) for side in entry["participants"]]
                    times.append(str(entry["time"]))
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    skipped["that cannot be read"] += 1
                    continue
                rows[kind] += [(chats[kind], *answer) for answer in answers]
                chats[kind] += 1
    if not times:
        why = ", ".join(f"{count} {what}" for what, count in skipped.items()) or "none at all"
        raise DataError(f"{paths[0]}: no line to compare for model {version} (lines: {why})")
    return Log({kind: _sample(of_kind) for kind, of_kind in rows.items()}, min(times), max(times), skipped, lost)


def _answer(side: dict[str, Any]) -> tuple[list[float], str]:
    values, confidence = [float(value) for value in (*side["signals"], side["score"])], str(side["confidence"])
    if len(values) != len(VALUES) or not np.isfinite(values).all() or confidence not in CONFIDENCES:
        raise ValueError
    return values, confidence


def _sample(rows: Sequence[tuple[int, list[float], str]]) -> Sample:
    sample = Sample(
        chat=np.array([number for number, _, _ in rows], int),
        values=np.array([values for _, values, _ in rows], float).reshape(-1, len(VALUES)),
        confidences=one_hot([confidence for _, _, confidence in rows]),
    )
    chats = sample.chats()
    if len(chats) <= MOST_CHATS:
        return sample
    return sample.take(np.random.default_rng(SEED).choice(chats, MOST_CHATS, replace=False))


def compare(kind: str, sample: Sample, normal: Distribution) -> Comparison:
    """Compare chats of one kind with what is normal."""
    draw = np.random.default_rng(SEED)
    chats, number = np.unique(sample.chat, return_inverse=True)
    counts = bin_counts(sample, normal.edges)
    said = np.zeros((len(chats), len(CONFIDENCES)))
    np.add.at(said, number, sample.confidences)
    taken = draw.multinomial(len(chats), np.full(len(chats), 1 / len(chats)), RESAMPLES)
    once = np.ones((1, len(chats)))
    shares = normal.shares.astype(np.float64)
    shares /= shares.sum(axis=1, keepdims=True) * (1 + 1e-12)  # so that no rounding takes the sum above 1
    drawn = draw.multinomial(int(normal.chats), shares, (RESAMPLES, len(VALUES))) / int(normal.chats)
    measured, resampled = index_of(once @ counts, shares), index_of(taken @ counts, drawn)
    parts = np.concatenate([once, taken]) @ said
    parts /= parts.sum(axis=1, keepdims=True)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    lower, upper = np.quantile(resampled, tails, axis=0)
    return Comparison(
        kind,
        len(chats),
        index=np.maximum(2 * measured[0] - resampled.mean(axis=0), 0),
        low=np.maximum(2 * measured[0] - upper, 0),
        high=np.maximum(2 * measured[0] - lower, 0),
        confidences=np.concatenate([parts[:1], np.quantile(parts[1:], tails, axis=0)]).T,
        normal=normal,
    )


def index_of(counts: Floats, shares: Floats) -> Floats:
    """Return the population stability index of each value, (samples, len(VALUES)).

    `counts` (samples, len(VALUES) * bins) is the traffic, `shares` (len(VALUES), bins) the reference, or one for each
    sample. Half a participant is added to each bin of both, so that an empty one has a logarithm.
    """
    bins = shares.shape[-1]
    traffic = counts.reshape(len(counts), -1, bins)
    total = traffic.sum(axis=2, keepdims=True)
    part = (traffic + 0.5) / (total + 0.5 * bins)
    normal = (shares * total + 0.5) / (total + 0.5 * bins)
    return np.asarray(((part - normal) * np.log(part / normal)).sum(axis=2))


def compare_log(log: Log, reference: Reference) -> list[Comparison]:
    """Compare each kind of which there are enough chats."""
    return [
        compare(kind, sample, reference.of_kind[kind])
        for kind, sample in log.samples.items()
        if len(sample.chats()) >= LEAST_CHATS and reference.of_kind[kind].chats
    ]


def summary(log: Log, comparisons: Sequence[Comparison]) -> list[str]:
    """Return the outcome in lines for a terminal or a mail."""
    lines = []
    compared = {comparison.kind: comparison for comparison in comparisons}
    for kind, sample in log.samples.items():
        chats = len(sample.chats())
        if kind not in compared:
            why = f"too few to compare (at least {LEAST_CHATS})" if chats < LEAST_CHATS else "none in the training data"
            lines.append(f"{kind}: {chats}, {why}")
            continue
        drifted = compared[kind].drifted()
        worst = ", ".join(f"{in_words(name)} {compared[kind].index[VALUES.index(name)]:.2f}" for name in drifted[:5])
        verdict = f"DRIFTED: {len(drifted)} of {len(VALUES)} values ({worst})" if drifted else "no drift"
        lines.append(f"{kind}: {chats}, {verdict}")
    lines += [f"left out: {count} lines {what}" for what, count in log.skipped.items()]
    if log.lost:
        lines.append(f"the log says that {log.lost} lines were lost")
    return lines


def write_drift_report(file: Path, log: Log, reference: Reference, comparisons: Sequence[Comparison]) -> None:
    """Write one HTML file with the outcome, pictures and figures."""
    drifted = [comparison for comparison in comparisons if comparison.drifted()]
    body = [
        "<p>What this means: answers may be right less often than the model card says. Label some of these chats and"
        " measure them with <code>python -m train evaluate</code>.</p>"
        if drifted
        else "",
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in summary(log, comparisons)) + "</ul>",
        f'<p class="soft">Model <code>{escape(reference.version)}</code>, traffic from {escape(log.first)} to'
        f" {escape(log.last)}, beside the training data, of which each chat was assessed by a model that was not fitted"
        " on it. Written by <code>python -m train drift</code>.</p>",
    ]
    for comparison in comparisons:
        body += [
            f"<h2>{escape(comparison.kind.capitalize())}: {comparison.chats:,}</h2>",
            pictures(
                (
                    "What has changed most",
                    "The further to the right, the less this traffic looks like the training data. What has drifted is"
                    f" in colour: its whole {LEVEL:.0%} interval is right of the line at {CHANGED}.",
                    partial(_indices, comparison=comparison),
                ),
                (
                    "How sure the answers are",
                    "Lines are intervals; EXPECTED_BOT_SHARE moves this as well.",
                    partial(_confidences, comparison=comparison),
                ),
            ),
            f"<h3>All figures of {escape(comparison.kind)}</h3>",
            _answers(comparison),
            _values_table(comparison),
        ]
    body.append(
        "<p>The population stability index compares how a value is distributed with the training data: 0 is no change;"
        f" above {USUAL[0]} it is usually taken for a change, above {USUAL[1]} for a large one.</p>"
    )
    page(file, "Drift report: bot or human", _verdict(comparisons), body)


def in_words(value: str) -> str:
    """Return a human's words for one of `VALUES`."""
    return "the score, from all signals" if value == "score" else words_for(value).en


def _verdict(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return f"Too few chats to tell: at least {LEAST_CHATS} are needed."
    drifted = [comparison for comparison in comparisons if comparison.drifted()]
    if not drifted:
        return "No drift: this traffic looks like the training data."
    named = dict.fromkeys(f"“{in_words(value)}”" for comparison in drifted for value in comparison.drifted()[:3])
    return f"Drift: this traffic differs from the training data, most of all in {_listed(list(named)[:3])}."


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _answers(comparison: Comparison) -> str:
    shares = zip(CONFIDENCES, comparison.confidences, comparison.normal.confidences.tolist(), strict=True)
    rows = [
        (f"{name} confidence", f"{share[0]:.1%}", f"{share[1]:.1%} to {share[2]:.1%}", f"{normal:.1%}")
        for name, share, normal in shares
    ]
    return table(("answers", "share in this traffic", f"{LEVEL:.0%} interval", "share in the training data"), rows)


def _values_table(comparison: Comparison) -> str:
    drifted = set(comparison.drifted())
    order = np.argsort(-comparison.index, kind="stable")
    rows = [
        (
            in_words(VALUES[at]),
            f"{comparison.index[at]:.3f}",
            f"{comparison.low[at]:.3f} to {comparison.high[at]:.3f}",
            "yes" if VALUES[at] in drifted else "no",
        )
        for at in order
    ]
    head = ("what was looked at", "population stability index (0 is no change)", f"{LEVEL:.0%} interval", "drifted")
    return table(head, rows)


def _indices(axes: Axes, comparison: Comparison) -> None:
    order = np.argsort(comparison.index, kind="stable")[-_SHOWN:]
    index, low, high = comparison.index[order], comparison.low[order], comparison.high[order]
    colours = [ACCENT if one > CHANGED else QUIET for one in low]
    axes.hlines(range(len(order)), low, high, colors=colours)
    axes.scatter(index, range(len(order)), s=20, c=colours)
    axes.set_yticks(range(len(order)), [in_words(VALUES[at]) for at in order], fontsize="small")
    axes.axvline(CHANGED, color=QUIET, linestyle=":")
    axes.set(xlabel="population stability index", xlim=(0, None))


def _confidences(axes: Axes, comparison: Comparison) -> None:
    share, low, high = comparison.confidences.T
    at = np.arange(len(CONFIDENCES))
    axes.bar(at - 0.2, share, 0.36, color=ACCENT, label="this traffic")
    axes.bar(at + 0.2, comparison.normal.confidences, 0.36, color=QUIET, label="training data")
    axes.vlines(at - 0.2, low, high, color=INK)
    axes.set_xticks(at, CONFIDENCES)
    axes.set(xlabel="confidence", ylabel="share of the answers", ylim=(0, 1))
