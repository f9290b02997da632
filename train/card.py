"""Write the model card, from the metrics that the same command measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.evaluate import (
    CROSS_VALIDATION,
    FEW_BOTS,
    FINISHED_CHATS,
    SHIFTED_CHATS,
    WHOLE_CHATS,
    WITHOUT_LAST,
    across,
    cross_validated,
    few_bots,
    is_at_home,
    left_out,
    streamed,
)

CARD = "README.md"
LEAST_ANSWERS = 50  # `high` has to be reliable wherever at least so many answers carry it
HIGH_HOME, HIGH_ELSEWHERE = 0.95, 0.9  # the aimed share of right answers among those of `high` confidence

# The aims: AUC at least, log loss at most.
AIMS: Mapping[tuple[str, str], tuple[float, float]] = {
    (cross_validated("2026"), FINISHED_CHATS): (0.978, 0.197),
    (cross_validated("2025"), FINISHED_CHATS): (0.935, 0.315),
    (cross_validated("2026"), WHOLE_CHATS): (0.973, 0.225),
    (cross_validated("2025"), WHOLE_CHATS): (0.922, 0.345),
    (cross_validated("2026"), streamed(4)): (0.943, 0.308),
    (cross_validated("2025"), streamed(4)): (0.885, 0.398),
    (cross_validated("2026"), streamed(None)): (0.958, 0.275),
    (cross_validated("2025"), streamed(None)): (0.913, 0.36),
    (cross_validated("2026"), SHIFTED_CHATS): (0.925, 0.34),
    (cross_validated("2025"), SHIFTED_CHATS): (0.87, 0.42),
    (across("2025", "2026"), FINISHED_CHATS): (0.935, 0.36),
    (across("2025", "2026"), WHOLE_CHATS): (0.90, 0.43),
    (across("2025", "2026"), streamed(None)): (0.86, 0.46),
    (across("2026", "2025"), FINISHED_CHATS): (0.885, 0.43),
    (across("2026", "2025"), WHOLE_CHATS): (0.845, 0.50),
    (across("2026", "2025"), streamed(None)): (0.83, 0.51),
    (left_out("convai_2017"), WHOLE_CHATS): (0.85, 0.44),
    (left_out("convai2_2018"), WHOLE_CHATS): (0.98, 0.28),
    (left_out("llmafia_pairs"), WHOLE_CHATS): (0.90, 0.40),
    (left_out("diplomacy_cicero"), WHOLE_CHATS): (0.92, 0.44),
}
# The rows of the first table, as far as they were measured.
SHOWN = (
    *((cross_validated(edition), how) for how in (FINISHED_CHATS, WHOLE_CHATS) for edition in ("2026", "2025")),
    *((cross_validated(edition), streamed(None)) for edition in ("2026", "2025")),
    (across("2025", "2026"), WHOLE_CHATS),
    (across("2026", "2025"), WHOLE_CHATS),
    (left_out("diplomacy_cicero"), WHOLE_CHATS),
    (left_out("convai_2017"), WHOLE_CHATS),
)

_TEXT = """\
# Model card: bot or human

This model reads a chat and says how likely each participant is to be a bot.
{sentence}
It was made for the You are Bot game, knows the bots of its editions only, and proves nothing about a person.

{first}

"Right" counts an answer at 0.5; "sure" is the share of answers with `high` confidence, and how many of them are right.

Written by `python -m train` (README, "Train"), which also makes `report.html`, with pictures; change the command, not
this file.

| | |
| --- | --- |
| version | `{version}` |
| date | {date} |
| artifact | `{file}`, {kilobytes:.0f} kB, SHA-256 `{sha256}` |
| written with | scikit-learn {sklearn}, NumPy {numpy} |

## How it works

A logistic regression over hashed character n-grams (1 to 4), words and pairs of words scores what each participant and
the other one wrote. Its scores join the style of both: lengths, punctuation, capital letters, emoji, repetition, who
opens and how they take turns. Boosted and extremely randomised trees score these signals, and their log odds are
averaged. At most one of two participants is a bot, so that each one's score lowers the other one's. No text is stored:
n-grams are hashed to numbers, and only their weights are kept.

Each training chat counts several times: as a chat of which nothing is known; as some of its beginnings; the same
without its first message; a chat of the game also as a finished recording, whose last word says something. Copies with
split messages, or with an assistant's stock phrase from a bot, and chats of other games count less. `confidence`
follows the probability, but never exceeds what the participant's own score says. Nobody gets `high` in a chat of one or
two messages, nor does a participant whose letters are mostly neither Cyrillic nor Latin, or who wrote none.

Chosen by cross-validation and by leaving out one of the other games: the signals, what each kind of copy weighs, the
number, the size and the learning rate of the trees, the weight of other games, and the threshold of `high`. The rows
across editions, those of people and those of two language models were not used to choose this model, but they had been
seen before: for six earlier models and three that were not kept, and across editions for five trials of other weights.

## Trained on

| data | chats | participants | bots | SHA-256 of the data |
| --- | --- | --- | --- | --- |
{data}

## Measured on chats the model was not fitted on

All copies of a chat stay on one side of a split. Log loss is in nats, with probabilities clipped to [0.001, 0.999].

- "{cross_validation}": fitted on four fifths of all editions and on the other games.
- "Trained on …": fitted on one edition and on the other games.
- "Left out": fitted on everything else; data sets that share messages are left out together.
- "{finished}": sent as recordings of the game (`finished`), whose last word says something.
- "{whole}": the same without a word about their end.
- "{shifted}": half of the chats without their last message, 40 % of the messages of four or more words sent in two
  parts; three draws, none of which was trained on.
- "Streamed": the chat sent message by message, each participant's last answer within so many messages. This is what the
  platform gets; in a shorter chat, all messages count.

### What was aimed at

{aims}

{verdict}

### Everything that was measured

"Base rate" is the log loss of always answering the training data's share of bots. The calibration error is the expected
one over ten bins of equal width.

| on | asked | ROC AUC | log loss | base rate | calibration error | answers |
| --- | --- | --- | --- | --- | --- | --- |
{measured}

How often an answer was right at 0.5, by its `confidence`, and the share of answers that carried it:

| on | asked | high | medium | low |
| --- | --- | --- | --- | --- |
{confidence}

{high}

## People who are called bots

Chats in which nobody is a bot, measured with the model itself, which has not seen them. "Wrong high" is the share of
people who are called bots with `high` confidence.

{people}

## Limits

- Bots change: the rows "trained on …" show what to expect of an edition that the model has not seen.
- A game, a language or a kind of bot that is not in the tables may do worse.
- Where hardly anybody is a bot, set `EXPECTED_BOT_SHARE`: the same evidence means less there.
- A probability is no proof. Don't use it to accuse a person.
"""


def write_card(folder: Path, metrics: dict[str, Any]) -> None:
    """Write the card of these metrics to a model folder."""
    artifact, rows = metrics["artifact"], metrics["measured"]
    text = _TEXT.format(
        sentence=sentence(rows),
        first=_first(rows),
        version=metrics["version"],
        date=metrics["date"],
        file=artifact["file"],
        kilobytes=artifact["bytes"] / 1000,
        sha256=artifact["sha256"],
        sklearn=artifact["scikit-learn"],
        numpy=artifact["numpy"],
        data="\n".join(
            f"| {data['name']} | {data['chats']} | {data['participants']} |"
            f" {data['bots'] / data['participants']:.0%} | `{data['sha256'][:16]}…` |"
            for data in metrics["trained_on"]
        ),
        cross_validation=CROSS_VALIDATION,
        finished=FINISHED_CHATS.capitalize(),
        whole=WHOLE_CHATS.capitalize(),
        shifted=SHIFTED_CHATS.capitalize(),
        aims=_aims(rows),
        verdict=_verdict(rows),
        measured=_figures(rows),
        confidence=_confidence(rows),
        high=_high(rows),
        people=_people(metrics["people"]),
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def shown(figure: float | None, digits: int = 4) -> str:
    """Return a figure as text; a dash where it is not defined, as an AUC without people or without bots."""
    return "–" if figure is None else f"{figure:.{digits}f}"


def misses(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the metrics that do not reach their aim."""
    found = []
    for row in rows:
        auc, loss = AIMS.get((row["on"], row["how"]), (0.0, float("inf")))
        if (row["roc_auc"] or 0) < auc or row["log_loss"] > loss:
            found.append(row)
    return found


def unreliable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the metrics in which `high` confidence is right less often than it should be."""
    found = []
    for row in rows:
        high = row["confidence"]["high"]
        least = HIGH_HOME if is_at_home(row["on"]) else HIGH_ELSEWHERE
        if high["answers"] >= LEAST_ANSWERS and high["accuracy"] < least:
            found.append(row)
    return found


def reliability(rows: list[dict[str, Any]]) -> str:
    """Return a sentence on how often answers of each confidence were right in cross-validation."""
    at_home = [row for row in rows if is_at_home(row["on"])]
    whole = [row for row in at_home if row["how"] in (FINISHED_CHATS, WHOLE_CHATS)]
    running = [row for row in at_home if row["how"] in map(streamed, (4, 8, None))]

    def span(chosen: list[dict[str, Any]], name: str) -> str:
        levels = [row["confidence"][name] for row in chosen]
        right = sorted({round(100 * level["accuracy"]) for level in levels if level["answers"] >= LEAST_ANSWERS})
        return f"{right[0]} to {right[-1]}" if len(right) > 1 else str(*right) or "(too few answers)"

    return (
        f"In cross-validation on whole chats, `high` was right {span(whole, 'high')} times out of 100, `medium`"
        f" {span(whole, 'medium')} and `low` {span(whole, 'low')}; in running dialogs of four messages or more,"
        f" {span(running, 'high')}, {span(running, 'medium')} and {span(running, 'low')}."
    )


def _aims(rows: list[dict[str, Any]]) -> str:
    lines = []
    missed = misses(rows)
    for row in rows:
        if (row["on"], row["how"]) in AIMS:
            auc, loss = AIMS[row["on"], row["how"]]
            verdict = "**missed**" if row in missed else "reached"
            figures = (shown(row["roc_auc"]), f"{auc:g}", f"{row['log_loss']:.4f}", f"{loss:g}")
            lines.append([row["on"], row["how"], *figures, verdict])
    if not lines:
        return "Nothing was aimed at on this data."
    head = "| on | asked | ROC AUC | at least | log loss | at most | |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    return head + _lines(lines)


def _verdict(rows: list[dict[str, Any]]) -> str:
    missed = misses(rows)
    aimed = sum((row["on"], row["how"]) in AIMS for row in rows)
    return f"{aimed - len(missed)} of {aimed} aims are reached." if aimed else ""


def _high(rows: list[dict[str, Any]]) -> str:
    wrong = [f"{row['on']}, {row['how']}: {row['confidence']['high']['accuracy']:.1%}" for row in unreliable(rows)]
    aim = (
        f"Where at least {LEAST_ANSWERS} answers carry it, `high` should be right {HIGH_HOME:.0%} of the time in"
        f" cross-validation and {HIGH_ELSEWHERE:.0%} elsewhere. "
    )
    aim = f"{reliability(rows)}\n\n{aim}"
    return aim + ("It is." if not wrong else f"It is not on: {'; '.join(wrong)}.")


def _right(row: dict[str, Any]) -> float:
    """Return the share of answers that are right at 0.5."""
    levels = row["confidence"].values()
    return float(sum(level["answers"] * (level["accuracy"] or 0) for level in levels) / row["answers"])


def sentence(rows: list[dict[str, Any]]) -> str:
    """Return how often answers about whole chats were right; "" where none was measured at home."""
    known = [_right(row) for row in rows if is_at_home(row["on"]) and row["how"] == WHOLE_CHATS]
    new = [_right(row) for row in rows if not is_at_home(row["on"]) and row["how"] == WHOLE_CHATS]
    if not known:
        return ""
    elsewhere = f", and about {100 * sum(new) / len(new):.0f} with bots that it has never met" if new else ""
    return f"Of 100 answers about whole chats, {100 * sum(known) / len(known):.0f} are right{elsewhere}."


def _first(rows: list[dict[str, Any]]) -> str:
    by_name = {(row["on"], row["how"]): row for row in rows}
    lines = []
    for row in [by_name[name] for name in SHOWN if name in by_name] or rows[:10]:
        high = row["confidence"]["high"]
        sure = "–" if high["accuracy"] is None else f"{high['share']:.0%}, {high['accuracy']:.0%} right"
        figures = (shown(row["roc_auc"], 3), f"{row['log_loss']:.3f}", f"{_right(row):.0%}", sure)
        lines.append([row["on"], row["how"], *figures])
    return "| on | asked | ROC AUC | log loss | right | sure |\n| --- | --- | --- | --- | --- | --- |\n" + _lines(lines)


def _people(rows: list[dict[str, Any]]) -> str:
    """Return a table of false alarms by data set, with a last line for all of them."""
    if not rows:
        return "Not measured."
    by_set = {on: {row["how"]: row for row in rows if row["on"] == on} for on in dict.fromkeys(r["on"] for r in rows)}

    def wrong_high(row: dict[str, Any]) -> float:
        return float(row["wrong_high"] / row["answers"])

    lines = []
    for on, ways in by_set.items():
        whole, cut, few = ways[WHOLE_CHATS], ways[WITHOUT_LAST], ways[few_bots()]
        figures = [whole["called_bots"], cut["called_bots"], wrong_high(whole), few["called_bots"]]
        lines.append([on, str(whole["answers"]), *(f"{figure:.1%}" for figure in figures)])
    totals = []
    for how, name in (
        (WHOLE_CHATS, "called_bots"),
        (WITHOUT_LAST, "called_bots"),
        (WHOLE_CHATS, ""),
        (few_bots(), "called_bots"),
    ):
        chosen = [ways[how] for ways in by_set.values()]
        count = sum(row["answers"] for row in chosen)
        totals.append(sum((row[name] if name else wrong_high(row)) * row["answers"] for row in chosen) / count)
    people = sum(ways[WHOLE_CHATS]["answers"] for ways in by_set.values())
    lines.append(["all", str(people), *(f"{figure:.1%}" for figure in totals)])
    head = "| chats | people | called bots | without the last message | wrong high |"
    head += f" called bots, {FEW_BOTS:.0%} expected |\n"
    return head + "| --- | --- | --- | --- | --- | --- |\n" + _lines(lines)


def _figures(rows: list[dict[str, Any]]) -> str:
    figures = ("roc_auc", "log_loss", "log_loss_of_base_rate", "calibration_error")
    return _lines([[row["on"], row["how"], *(shown(row[n]) for n in figures), str(row["answers"])] for row in rows])


def _confidence(rows: list[dict[str, Any]]) -> str:
    def cell(level: dict[str, Any]) -> str:
        return "–" if level["accuracy"] is None else f"{level['accuracy']:.1%} of {level['share']:.0%}"

    return _lines([[r["on"], r["how"], *(cell(r["confidence"][n]) for n in ("high", "medium", "low"))] for r in rows])


def _lines(cells: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
