"""Measure after how many chats `python -m train drift` notices a new edition of the game, and its false alarms.

`python -m benchmarks.drift 2025 2026 [--elsewhere …]` takes the folders of two editions. A model is fitted on the first
(and the other games), and its reference made as `python -m train` makes it. Then each question is asked of many random
draws:

- noticed: chats of the second edition, compared with the reference of the first.
- false alarms, same edition: chats of the first edition, compared with a reference from the rest of it.
- false alarms, halves: a random half of the second edition, compared with a reference from the other half.

Results: `benchmarks/results/drift.md` and `drift.svg`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from models.classifier import Classifier
from train.data import read_editions
from train.drift import CHANGED, LEAST_CHATS, LEVEL, compare
from train.evaluate import fit_all, plan
from train.fit import FOLDS, fit, tabulate
from train.reference import KINDS, VALUES, Distribution, Sample, assess_kinds, cross_assess

SIZES = (25, 50, 100, 200, 400, 600)
DRAWS = 100
SPLITS = 400  # into halves
RESULTS = Path(__file__).parent / "results"


def flagged(kind: str, sample: Sample, chats: int, draws: int, normal: Distribution | None = None) -> tuple[int, int]:
    """Return how many of the draws of so many chats have drifted, and how many draws there are.

    They are compared with `normal`, or else with the rest of the sample.
    """
    found = 0
    for number in tqdm(range(draws), desc=f"{kind}, {chats}", leave=False):
        order = np.random.default_rng([7, number]).permutation(sample.chats())
        drawn, rest = sample.take(order[:chats]), sample.take(order[chats:])
        found += bool(compare(kind, drawn, normal or Distribution.of(rest)).drifted())
    return found, draws


def main() -> None:
    """Run the study and write its results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("first", type=Path, help="folder of the edition to train on")
    parser.add_argument("second", type=Path, help="folder of the edition to notice")
    parser.add_argument("--elsewhere", metavar="DATA", nargs="+", type=Path, default=[], help="other games' chats")
    options = parser.parse_args()
    (first, second), elsewhere = read_editions([options.first, options.second]), read_editions(options.elsewhere)
    table = tabulate([first], elsewhere)
    steps = plan([first], elsewhere, table)[:FOLDS]
    folds = [Classifier(one.weights(), "study") for one in fit_all(table, [step.fitted_on for step in steps])]
    before = cross_assess([first], steps, folds)
    after = assess_kinds(Classifier(fit(table).weights(), "study"), second.chats)
    lines = list(report(first.name, second.name, before, after))
    (RESULTS / "drift.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def report(first: str, second: str, before: dict[str, Sample], after: dict[str, Sample]) -> Iterator[str]:
    """Ask all questions; yields the lines of the results, and draws the curve."""
    yield "# Drift"
    yield ""
    yield "Written by `python -m benchmarks.drift`."
    yield ""
    yield f"The model was trained on {first} and the other games. A log is flagged if the {LEVEL:.0%} interval of any"
    yield f"of the {len(VALUES)} values is above {CHANGED}. `python -m train drift` wants {LEAST_CHATS} chats at least."
    yield ""
    yield f"## Is {second} noticed, and is {first} left in peace?"
    yield ""
    yield f"Flagged of {DRAWS} random draws of so many chats."
    yield ""
    yield f"| kind | chats | {second} (noticed) | {first} beside the rest of {first} (false alarms) |"
    yield "| --- | --- | --- | --- |"
    curves: dict[str, list[tuple[int, float]]] = {}
    for kind in KINDS:
        normal = Distribution.of(before[kind])
        for size in SIZES:
            cells = []
            for name, source in ((second, after[kind]), (first, before[kind])):
                if size > len(source.chats()) * 0.8:
                    cells.append("–")
                    continue
                found, draws = flagged(kind, source, size, DRAWS, normal if name == second else None)
                cells.append(f"{found} of {draws}")
                curves.setdefault(f"{name}, {kind}", []).append((size, found / draws))
            yield f"| {kind} | {size} | {' | '.join(cells)} |"
    yield ""
    yield "![Share of flagged draws by chats](drift.svg)"
    yield ""
    yield f"## Halves of {second}"
    yield ""
    for kind in KINDS:
        half = len(after[kind].chats()) // 2
        found, draws = flagged(kind, after[kind], half, SPLITS)
        yield f"- {kind}: {found} of {draws} random halves ({half} chats) are flagged beside the other half."
    yield ""
    yield f"## What has changed in {second}"
    yield ""
    yield "| kind | value | index | interval |"
    yield "| --- | --- | --- | --- |"
    for kind in KINDS:
        outcome = compare(kind, after[kind], Distribution.of(before[kind]))
        for name in outcome.drifted()[:10]:
            at = VALUES.index(name)
            yield f"| {kind} | {name} | {outcome.index[at]:.2f} | {outcome.low[at]:.2f} to {outcome.high[at]:.2f} |"
    _draw(curves)


def _draw(curves: dict[str, list[tuple[int, float]]]) -> None:
    mpl.rcParams["svg.hashsalt"] = "drift"
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.axvline(LEAST_CHATS, color="grey", linestyle=":")
    axes.set(xscale="log", xlabel="chats in the log", ylabel="share of draws that are flagged", ylim=(-0.02, 1.02))
    axes.legend(fontsize="small")
    figure.savefig(RESULTS / "drift.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
