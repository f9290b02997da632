"""Write the report: one HTML file with what was found, pictures of it, and the figures behind them."""

import io
import re
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
from models.words import words_for
from train.card import reliability, sentence, shown
from train.evaluate import BINS, WHOLE_CHATS, Measured, clipped_log_loss, cross_validated
from train.fit import Fitted

REPORT = "report.html"
LENGTHS = (2, 4, 6, 8, 12, 20, 10_000)  # messages in a chat, the borders of the groups

# ROC AUC and log loss that were published for the 2025 edition of You are Bot (https://youare.bot)
PUBLISHED = (
    ("TF-IDF and logistic regression", 0.80, 0.53),
    ("CatBoost on manual features", 0.77, 0.52),
    ("the average of the two", 0.82, 0.50),
)
_FIGURES = {
    "roc_auc": "ROC AUC (1 is best)",
    "log_loss": "log loss (0 is best)",
    "log_loss_of_base_rate": "log loss of always answering the share of bots",
    "calibration_error": "calibration error (0 is best)",
}
_SHOWN = 20  # signals in the picture of their importance

INK = "#0a0b0c"  # stands for the colour of the page's text, light or dark, in what matplotlib draws
_STYLE: Any = {  # of matplotlib
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}color": INK for part in ("edge", "label")},
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.facecolor": "none",
    "legend.edgecolor": "none",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",  # the same picture for the same figures
    "text.parse_math": False,  # names of folders are no formulas
}
ACCENT, QUIET = "#7c6be0", "#8a8599"  # colours of what counts and of what does not, on light and on dark

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{
  color-scheme: light dark; --page: #f5f4f8; --card: #fff; --line: #e2e0ea; --text: #1f1c2b; --soft: #5d586d
}}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #131219; --card: #1d1b26; --line: #363243; --text: #eeecf4; --soft: #aaa5ba }}
}}
body {{
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; max-width: 72rem; margin: 0 auto;
  padding: 1.5rem; background: var(--page); color: var(--text)
}}
h1 {{ font-size: 1.875rem; line-height: 1.2; margin: .25rem 0 .5rem; max-width: 50rem; text-wrap: balance }}
h2 {{ margin: 2rem 0 .75rem }}
h3 {{ margin: 1.5rem 0 .5rem; font-size: 1.0625rem }}
figcaption h3 {{ margin: 0 }}
p {{ max-width: 50rem; margin: .5rem 0 }}
.soft, figcaption p {{ color: var(--soft); font-size: .9375rem; margin: 0 }}
.pictures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 1rem }}
figure, .table {{
  margin: 0; padding: 1rem 1.25rem; border: 1px solid var(--line); border-radius: 1rem; background: var(--card);
  overflow-x: auto
}}
.table {{ margin-bottom: 1rem }}
svg {{ display: block; width: 100%; height: auto; margin-top: .5rem }}
svg text {{ font-family: system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif !important }}
table {{ border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums }}
th, td {{ border-bottom: 1px solid var(--line); padding: .35rem .8rem; text-align: left; vertical-align: bottom }}
td {{ white-space: nowrap }}
tr:last-child td {{ border: 0 }}
</style>
</head>
<body>
<p class="soft">{kind}</p>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def write_report(file: Path, metrics: dict[str, Any], measured: Sequence[Measured], fitted: Fitted) -> None:
    """Write the report of these measurements and of the model fitted on all data."""
    rows = metrics["measured"]
    complete = [part for part in measured if part.how == WHOLE_CHATS]
    both = [part for part in complete if part.has_both()]
    chats = sum(data["chats"] for data in metrics["trained_on"])
    body = [
        f"<p>{_code(reliability(rows))}</p>",
        f'<p class="soft">Model <code>{escape(metrics["version"])}</code> of {escape(metrics["date"])}, trained on'
        f" {chats:,} chats by <code>python -m train</code>. Measured on chats that it was not fitted on, with"
        f" {sum(row['answers'] for row in rows if row['how'] == WHOLE_CHATS):,} answers about whole chats.</p>",
        "<h2>In pictures</h2>",
        pictures(
            (
                "How well it tells bots from people",
                "Each line shows how many bots are found at the price of how many people. Nearer to the upper left is"
                " better; the dotted line is guessing.",
                lambda axes: _roc(axes, both),
            ),
            (
                "Whether its probabilities hold",
                "On the dotted line, of those who got 70 %, 70 of 100 are bots.",
                lambda axes: _reliability(axes, complete),
            ),
            (
                "What it goes by",
                "The signals that the randomised trees learned most from.",
                lambda axes: _importance(axes, fitted),
            ),
            (
                "How much longer chats help",
                "The lower, the better; 0.69 is what guessing 50 % gets.",
                lambda axes: _by_length(axes, complete),
            ),
            (
                "Of those it calls bots, how many are",
                "The further it looks for bots, to the right, the more people are among them.",
                lambda axes: _precision_recall(axes, both),
            ),
            (
                "What the way of asking changes",
                "Whole chats, running dialogs, and chats that are cut in other ways; to the left is better.",
                lambda axes: _by_way(axes, rows),
            ),
        ),
        "<h2>All figures</h2>",
        "<p>ROC AUC: how often a bot gets a higher probability than a person. Log loss: in nats, with probabilities"
        " clipped to [0.001, 0.999]. Calibration error: how far probabilities are from what happened, on average.</p>",
        table(
            ("tested on", "asked about", *_FIGURES.values(), "answers"),
            [(row["on"], row["how"], *(shown(row[name]) for name in _FIGURES), f"{row['answers']:,}") for row in rows],
        ),
        *_beside_published(rows),
    ]
    page(file, "Training report: bot or human", sentence(rows) or "There is nothing it was measured on.", body)


def _code(text: str) -> str:
    """Return a text of the model card, in which code is between backticks, as HTML."""
    return re.sub("`(.*?)`", r"<code>\1</code>", escape(text))


def _beside_published(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what was published for the game's 2025 edition, where that was measured: elsewhere it means nothing."""
    own = [
        (f"this classifier, {row['on']}", shown(row["roc_auc"], 2), shown(row["log_loss"], 2))
        for row in rows
        if row["how"] == WHOLE_CHATS and (row["on"] == cross_validated("2025") or row["on"].endswith("tested on 2025"))
    ]
    if not own:
        return []
    return [
        "<h2>Beside published results</h2>",
        "<p>On the 2025 edition of the game; the published ones need not have been measured on the same chats.</p>",
        table(
            ("method", "ROC AUC (1 is best)", "log loss (0 is best)"),
            [*((name, f"{auc:.2f}", f"{loss:.2f}") for name, auc, loss in PUBLISHED), *own],
        ),
    ]


def page(file: Path, kind: str, title: str, body: Sequence[str]) -> None:
    """Write a page: what kind of report it is, a title that says what came of it, and a body of parts in HTML."""
    file.write_text(_PAGE.format(kind=escape(kind), title=escape(title), body="\n".join(body)), encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in HTML."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    lines = "\n".join([line("th", head), *(line("td", row) for row in rows)])
    return (
        f'<div class="table" role="region" aria-label="{escape(head[0])}" tabindex="0"><table>\n{lines}\n</table></div>'
    )


def pictures(*drawn: tuple[str, str, Callable[[Axes], None]]) -> str:
    """Return pictures side by side, each of a title, a sentence on how to read it, and a function that draws it."""
    return '<div class="pictures">\n' + "\n".join(_picture(*one) for one in drawn) + "\n</div>"


def _picture(title: str, how_to_read: str, draw: Callable[[Axes], None]) -> str:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6, 4.8), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        if axes.get_legend_handles_labels()[1]:
            figure.legend(loc="outside lower center", ncols=2, fontsize="small")  # not on the lines
        svg = io.StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None}, transparent=True)
    image = svg.getvalue().replace(INK, "currentColor")
    image = image[image.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
    return f"<figure><figcaption><h3>{escape(title)}</h3><p>{escape(how_to_read)}</p></figcaption>{image}</figure>"


def _roc(axes: Axes, measured: Sequence[Measured]) -> None:
    for part in measured:
        wrong, right, _ = roc_curve(part.labels, part.probabilities)
        axes.plot(wrong, right, label=part.on)
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":")
    axes.set(xlabel="share of people taken for bots", ylabel="share of bots found")


def _precision_recall(axes: Axes, measured: Sequence[Measured]) -> None:
    for part in measured:
        precision, recall, _ = precision_recall_curve(part.labels, part.probabilities)
        axes.plot(recall, precision, label=part.on)
    axes.set(xlabel="share of bots found (recall)", ylabel="share of bots among those (precision)", ylim=(0, 1.02))


def _reliability(axes: Axes, measured: Sequence[Measured]) -> None:
    for part in measured:
        happened, said = calibration_curve(part.labels, part.probabilities, n_bins=BINS)
        axes.plot(said, happened, marker="o", label=part.on)
    axes.plot([0, 1], [0, 1], color=QUIET, linestyle=":")
    axes.set(xlabel="probability that was given", ylabel="share of bots among them")


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
    axes.set(xlabel="messages in the chat", ylabel="log loss", ylim=(0, None))


def _by_way(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    ways = list(dict.fromkeys(row["how"] for row in rows))
    for on in dict.fromkeys(row["on"] for row in rows):
        losses = {row["how"]: row["log_loss"] for row in rows if row["on"] == on}
        axes.plot([losses.get(way, np.nan) for way in ways], range(len(ways)), marker="o", linestyle="", label=on)
    axes.set_yticks(range(len(ways)), ways, fontsize="small")
    axes.invert_yaxis()
    axes.set(xlabel="log loss", xlim=(0, None))


def _importance(axes: Axes, fitted: Fitted) -> None:
    importance = fitted.randomised.feature_importances_
    order = np.argsort(importance)[-_SHOWN:]
    axes.barh([words_for(SIGNALS[at]).en for at in order], importance[order], color=ACCENT)
    axes.tick_params(axis="y", labelsize="small")
    axes.set(xlabel="share of what the trees gained")
