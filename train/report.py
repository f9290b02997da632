"""Write the report: one HTML file with the figures, plots of them, and published results."""

import io
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from models.signals import SIGNALS
from train.card import shown
from train.evaluate import BINS, WHOLE_CHATS, Measured, clipped_log_loss
from train.fit import Fitted

REPORT = "report.html"
LENGTHS = (2, 4, 6, 8, 12, 20, 10_000)  # messages in a chat, the borders of the groups

# ROC AUC and log loss that were published for the 2025 edition of You are Bot (https://youare.bot)
PUBLISHED = (
    ("TF-IDF and logistic regression", 0.80, 0.53),
    ("CatBoost on manual features", 0.77, 0.52),
    ("the average of the two", 0.82, 0.50),
)
_SHOWN = 20  # signals in the picture of their importance

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ border-bottom: 1px solid #ccc; padding: .3rem .8rem; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
figure {{ display: inline-block; margin: 0 0 1rem }}
svg {{ max-width: 100%; height: auto }}
</style>
<h1>{title}</h1>
{body}
</html>
"""

_BODY = """\
<p>Model <code>{version}</code> of {date}, written by <code>python -m train</code>. Whole chats are kept together; log
loss is in nats, with probabilities clipped to [0.001, 0.999].</p>
<h2>Figures</h2>
{figures}
<h2>Beside published results</h2>
<p>On the 2025 edition; the published ones need not have been measured on the same chats.</p>
{published}
<h2>Pictures</h2>
{pictures}"""


def write_report(file: Path, metrics: dict[str, Any], measured: Sequence[Measured], fitted: Fitted) -> None:
    """Write the report of these measurements and of the model fitted on all data."""
    mpl.rcParams["svg.hashsalt"] = "report"  # the same picture for the same figures
    mpl.rcParams["text.parse_math"] = False  # names of folders are no formulas
    rows = metrics["measured"]
    complete = [part for part in measured if part.how == WHOLE_CHATS]
    both = [part for part in complete if part.has_both()]
    pictures = [
        picture("ROC", lambda axes: _roc(axes, both)),
        picture("Precision and recall", lambda axes: _precision_recall(axes, both)),
        picture("Reliability", lambda axes: _reliability(axes, complete)),
        picture("Log loss by messages in the chat", lambda axes: _by_length(axes, complete)),
        picture("Log loss by way of asking", lambda axes: _by_way(axes, rows)),
        picture("Importance of the signals", lambda axes: _importance(axes, fitted)),
    ]
    body = _BODY.format(
        version=escape(metrics["version"]),
        date=escape(metrics["date"]),
        figures=table(
            ("on", "asked", "ROC AUC", "log loss", "of the base rate", "calibration error", "answers"),
            [
                (
                    row["on"],
                    row["how"],
                    *(
                        shown(row[name])
                        for name in ("roc_auc", "log_loss", "log_loss_of_base_rate", "calibration_error")
                    ),
                    str(row["answers"]),
                )
                for row in rows
            ],
        ),
        published=table(
            ("method", "ROC AUC", "log loss"),
            [
                *((name, f"{auc:.2f}", f"{loss:.2f}") for name, auc, loss in PUBLISHED),
                *(
                    (f"this classifier, {row['on']}", shown(row["roc_auc"]), shown(row["log_loss"]))
                    for row in rows
                    if row["how"] == WHOLE_CHATS
                    and (row["on"].startswith("2025") or row["on"].endswith("tested on 2025"))
                ),
            ],
        ),
        pictures="\n".join(pictures),
    )
    file.write_text(page("Bot or human: training report", body), encoding="utf-8")


def page(title: str, body: str) -> str:
    """Return a page with a title and a body in HTML."""
    return _PAGE.format(title=escape(title), body=body)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in HTML."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>\n" + "\n".join([line("th", head), *(line("td", row) for row in rows)]) + "\n</table>"


def picture(title: str, draw: Callable[[Axes], None]) -> str:
    """Return a picture as SVG within HTML."""
    figure = Figure(figsize=(6, 4.6), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.set_title(title)
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    text = svg.getvalue()
    return f"<figure>{text[text.index('<svg') :]}</figure>"


def _roc(axes: Axes, measured: Sequence[Measured]) -> None:
    for part in measured:
        wrong, right, _ = roc_curve(part.labels, part.probabilities)
        axes.plot(wrong, right, label=part.on)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(xlabel="people taken for bots", ylabel="bots found")
    axes.legend(fontsize="small")


def _precision_recall(axes: Axes, measured: Sequence[Measured]) -> None:
    for part in measured:
        precision, recall, _ = precision_recall_curve(part.labels, part.probabilities)
        axes.plot(recall, precision, label=part.on)
    axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02))
    axes.legend(fontsize="small")


def _reliability(axes: Axes, measured: Sequence[Measured]) -> None:
    for part in measured:
        happened, said = calibration_curve(part.labels, part.probabilities, n_bins=BINS)
        axes.plot(said, happened, marker="o", label=part.on)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(xlabel="probability that was said", ylabel="share of bots")
    axes.legend(fontsize="small")


def _by_length(axes: Axes, measured: Sequence[Measured]) -> None:
    groups = list(pairwise(LENGTHS))
    names = [f"{low} to {high - 1}" for low, high in groups[:-1]] + [f"{LENGTHS[-2]} or more"]
    for part in measured:
        losses = []
        for low, high in groups:
            chosen = (part.messages >= low) & (part.messages < high)
            some = chosen.any()
            losses.append(clipped_log_loss(part.labels[chosen], part.probabilities[chosen]) if some else np.nan)
        axes.plot(names, losses, marker="o", label=part.on)
    axes.set(xlabel="messages", ylabel="log loss", ylim=(0, None))
    axes.legend(fontsize="small")


def _by_way(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    ways = list(dict.fromkeys(row["how"] for row in rows))
    for on in dict.fromkeys(row["on"] for row in rows):
        losses = {row["how"]: row["log_loss"] for row in rows if row["on"] == on}
        axes.plot([losses.get(way, np.nan) for way in ways], range(len(ways)), marker="o", linestyle="", label=on)
    axes.set_yticks(range(len(ways)), ways, fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="log loss", xlim=(0, None))
    axes.legend(fontsize="x-small")


def _importance(axes: Axes, fitted: Fitted) -> None:
    importance = fitted.randomised.feature_importances_
    order = np.argsort(importance)[-_SHOWN:]
    axes.barh([SIGNALS[at] for at in order], importance[order])
    axes.tick_params(axis="y", labelsize="small")
    axes.set(xlabel="share of the randomised trees' gain")
