"""Write the model card, from the metrics that the same command measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.classifier import MOST_LIKELY
from models.weights import HOME_SHARE
from train.evaluate import COMPLETE_CHATS, SHIFTED_CHATS, across, cross_validated, is_at_home, left_out, streamed

CARD = "README.md"
LEAST_ANSWERS = 50  # `high` has to be reliable wherever at least so many answers carry it
HIGH_HOME, HIGH_ELSEWHERE = 0.95, 0.9  # the aimed share of right answers among those of `high` confidence

# The aims: AUC at least, log loss at most.
AIMS: Mapping[tuple[str, str], tuple[float, float]] = {
    (cross_validated("2025"), COMPLETE_CHATS): (0.944, 0.283),
    (cross_validated("2026"), COMPLETE_CHATS): (0.974, 0.203),
    (across("2025", "2026"), COMPLETE_CHATS): (0.895, 0.446),
    (across("2026", "2025"), COMPLETE_CHATS): (0.874, 0.445),
    (left_out("convai_2017"), COMPLETE_CHATS): (0.86, 0.43),
    (left_out("convai2_2018"), COMPLETE_CHATS): (0.985, 0.26),
    (cross_validated("2026"), streamed(2)): (0.84, 0.49),
    (cross_validated("2026"), streamed(4)): (0.93, 0.35),
    (cross_validated("2026"), streamed(8)): (0.945, 0.30),
    (cross_validated("2026"), streamed(None)): (0.95, 0.30),
    (cross_validated("2025"), streamed(2)): (0.87, 0.42),
    (cross_validated("2025"), streamed(4)): (0.89, 0.39),
    (cross_validated("2025"), streamed(8)): (0.915, 0.34),
    (cross_validated("2025"), streamed(None)): (0.92, 0.34),
    (cross_validated("2026"), SHIFTED_CHATS): (0.925, 0.34),
    (cross_validated("2025"), SHIFTED_CHATS): (0.90, 0.375),
}

_TEXT = """\
# Model card: bot or human

Written by `python -m train`; change the command, not this file.

| | |
| --- | --- |
| version | `{version}` |
| date | {date} |
| artifact | `{file}`, {kilobytes:.0f} kB, SHA-256 `{sha256}` |
| written with | scikit-learn {sklearn}, NumPy {numpy}, pandas {pandas} |

## What it does

It gives each participant of a chat the probability of being a bot, from what the participant wrote and from what the
others wrote. It was made for the You are Bot game: short chats of two, mostly Russian, some English, never two bots.

Logistic regressions over hashed character n-grams (1 to 4), words and pairs of words come first: one fitted on the
game's chats, one on the chats of all games. Their scores join the style of both sides: who opens, lengths, punctuation,
capital letters, emoji, repetition, echoing. Two experts score these signals.

- The home expert is fitted on the game and averages the log odds of gradient boosted and of extremely randomised
  trees. It has separate trees for running dialogs (`/predict` with a message), for complete chats in which the
  participants strictly take turns, and for those in which somebody writes twice in a row.
  Copies of the training chats with other turn-taking (messages lost at the end or the beginning, messages sent in two
  parts) keep it from relying on how recordings happen to end. Copies in which a bot says an assistant's stock phrase
  show it what those mean, since in the game it is mostly people who use them, to tease. Running dialogs are training
  chats that were cut off at the message of the participant who was asked about, some without their first message.
- The elsewhere expert is fitted on all games, each of which weighs the same: extremely randomised trees over the
  signals that point the same way in every game, none of them about turns, amounts or alphabets.

A logistic regression decides how much the home expert has to say in each chat: {least_home:.0%} to {most_home:.0%}.
The participants of a chat are then scored together: at most one of two is a bot. The fewer words a chat has, and the
more of them are in neither the Cyrillic nor the Latin alphabet, the closer its probabilities are to the game's share of
bots. After one or two messages no probability is above {most_likely:.1%} or below {least_likely:.1%}, so that no such
answer has `high` confidence. No text is stored: n-grams are hashed to numbers, and only their weights are kept.

Chosen by looking at the tables below, which therefore look a little better than new data of the same kind would: how
much each kind of copy weighs in training, the number and the size of the trees, the constants of the last steps
(`HOME_SHARE`, `BOLDER`, `TEMPER`, `LIFT`, `FEW_WORDS`, `STEEPNESS`, `MOST_LIKELY`, `BOOSTED`), and the thresholds of
`confidence`. All rows of "What was aimed at" were in view. The three draws of shifted turn-taking were in view as well:
the training never sees them, but no fourth draw was kept aside.

## Trained on

| data | chats | participants | bots | SHA-256 of the data |
| --- | --- | --- | --- | --- |
{data}

## Measured on chats the model was not fitted on

All copies of a chat stay on one side of a split. Log loss is in nats, with probabilities clipped to [0.001, 0.999].

- "Cross-validated with all editions", if there are several: fitted on four fifths of every edition and on the other
  games. These rows say most about the model itself, which is fitted on all of them.
- "Cross-validation": within one edition, fitted on four fifths of it and on the other games.
- "Trained on …": fitted on one edition and on the other games.
- "Left out": fitted on everything else.
- "Complete chats": the whole chat at once.
- "Shifted turn-taking": half of the chats without their last message, 40 % of the messages of four or more words sent
  in two parts; three draws, none of which was trained on.
- "Streamed": the chat sent message by message, each participant's last answer within so many messages. This is what the
  platform gets; in a shorter chat, all messages count.

### What was aimed at

{aims}

{verdict}

### Everything that was measured

"Base rate" is the log loss of always answering the training data's share of bots. The calibration error is the expected
one over ten bins of equal width. "Unlike" is the share of answers in which the home expert has less than half of the
say.

| on | asked | ROC AUC | log loss | base rate | calibration error | unlike | answers |
| --- | --- | --- | --- | --- | --- | --- | --- |
{measured}

How often an answer was right at 0.5, by its `confidence`, and the share of answers that carried it:

| on | asked | high | medium | low |
| --- | --- | --- | --- | --- |
{confidence}

{high}

## Limits

- It knows the bots of the editions above. Bots change: {across}.
- Other games: {elsewhere}. A game, a language or a kind of bot that is not in the tables may do worse.
- A dialog that is still going on: {streamed}. With the bots of another edition: {streamed_across}. The list above says
  where `high` is right less often than it should be.
- A chat that is recorded in another way: {shifted}.
- Who has the last word is a strong signal in complete chats of the game, because of how its recordings end. Where
  recordings end otherwise, use a running dialog or expect the figures of "shifted turn-taking".
- A probability is no proof. Don't use it to accuse a person.
"""


def write_card(folder: Path, metrics: dict[str, Any]) -> None:
    """Write the card of these metrics to a model folder."""
    artifact, rows = metrics["artifact"], metrics["measured"]
    text = _TEXT.format(
        version=metrics["version"],
        date=metrics["date"],
        file=artifact["file"],
        kilobytes=artifact["bytes"] / 1000,
        sha256=artifact["sha256"],
        sklearn=artifact["scikit-learn"],
        numpy=artifact["numpy"],
        pandas=artifact["pandas"],
        most_likely=MOST_LIKELY,
        least_likely=1 - MOST_LIKELY,
        least_home=HOME_SHARE[0],
        most_home=HOME_SHARE[1],
        data="\n".join(
            f"| {data['name']} | {data['chats']} | {data['participants']} |"
            f" {data['bots'] / data['participants']:.0%} | `{data['sha256'][:16]}…` |"
            for data in metrics["trained_on"]
        ),
        aims=_aims(rows),
        verdict=_verdict(rows),
        measured=_figures(rows),
        confidence=_confidence(rows),
        high=_high(rows),
        across=_figures_of([row for row in rows if row["on"].startswith("trained on")], COMPLETE_CHATS),
        elsewhere=_figures_of([row for row in rows if row["on"].endswith("left out")], COMPLETE_CHATS),
        streamed=_figures_of([row for row in rows if is_at_home(row["on"])], streamed(4)),
        streamed_across=_figures_of([row for row in rows if row["on"].startswith("trained on")], streamed(8)),
        shifted=_figures_of([row for row in rows if is_at_home(row["on"])], SHIFTED_CHATS),
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
    complete = [row for row in at_home if row["how"] == COMPLETE_CHATS]
    running = [row for row in at_home if row["how"] in map(streamed, (4, 8, None))]

    def span(chosen: list[dict[str, Any]], name: str) -> str:
        levels = [row["confidence"][name] for row in chosen]
        right = sorted({round(100 * level["accuracy"]) for level in levels if level["answers"] >= LEAST_ANSWERS})
        return f"{right[0]} to {right[-1]}" if len(right) > 1 else str(*right) or "(too few answers)"

    return (
        f"In cross-validation on complete chats, `high` was right {span(complete, 'high')} times out of 100, `medium`"
        f" {span(complete, 'medium')} and `low` {span(complete, 'low')}; in running dialogs of four messages or more,"
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


def _figures_of(rows: list[dict[str, Any]], how: str) -> str:
    chosen = [row for row in rows if row["how"] == how]
    if not chosen:
        return "not measured"
    return "; ".join(
        f"{row['on']}, {how}: AUC {shown(row['roc_auc'], 2)}, log loss {row['log_loss']:.2f} (base rate"
        f" {row['log_loss_of_base_rate']:.2f})"
        for row in chosen
    )


def _figures(rows: list[dict[str, Any]]) -> str:
    figures = ("roc_auc", "log_loss", "log_loss_of_base_rate", "calibration_error")
    return _lines(
        [
            [row["on"], row["how"], *(shown(row[n]) for n in figures), f"{row['unlike']:.0%}", str(row["answers"])]
            for row in rows
        ]
    )


def _confidence(rows: list[dict[str, Any]]) -> str:
    def cell(level: dict[str, Any]) -> str:
        return "–" if level["accuracy"] is None else f"{level['accuracy']:.1%} of {level['share']:.0%}"

    return _lines([[r["on"], r["how"], *(cell(r["confidence"][n]) for n in ("high", "medium", "low"))] for r in rows])


def _lines(cells: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
