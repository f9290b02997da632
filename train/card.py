"""Write the model card, from the metrics that the same command measured."""

from pathlib import Path
from typing import Any

CARD = "README.md"

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

A logistic regression over hashed character n-grams (1 to 4), words and pairs of words of both sides comes first. What
it says about both sides (from inner folds) joins the style of both sides: who opens, lengths, punctuation, capital
letters, emoji, repetition, echoing. On these, gradient boosted trees, extremely randomised trees and small neural
networks are fitted, and their log odds averaged. The participants of a chat are then scored together, as at most one of
them is a bot. All of it is fitted with scikit-learn. No text is stored: n-grams are hashed to numbers, and only their
weights are kept.

The fewer words a chat has, and the rarer its n-grams were in the training data, the closer its probabilities are to the
training data's share of bots. These constants were chosen by looking at the tables below: the three parts' shares, two
of the last step (`TEMPER`, `LIFT`), the number of words that count as few, and the rarity that counts as usual.

## Trained on

| data | chats | participants | bots | SHA-256 of the data |
| --- | --- | --- | --- | --- |
{data}

## Measured on chats the model was not fitted on

Whole chats are kept together. Log loss is in nats, with probabilities clipped to [0.001, 0.999].

"Base rate" is the log loss of always answering the training data's share of bots. The calibration error is the expected
one over ten bins of equal width.

| on | ROC AUC | log loss | base rate | calibration error | participants |
| --- | --- | --- | --- | --- | --- |
{measured}

How often an answer was right at 0.5, by its `confidence`, and the share of answers that carried it:

| on | high | medium | low |
| --- | --- | --- | --- |
{confidence}

Told message by message, as the platform does: after so many messages of each chat, for who has spoken by then (of the
cross-validation above; a chat that is shorter counts with all it has).

| on | messages | ROC AUC | log loss | participants |
| --- | --- | --- | --- | --- |
{so_far}

## Measured elsewhere

The shipped model on other games' chats. It was not fitted on them; how strongly it holds back on unlike chats
(`MANY_WORDS`, `RARE`) was chosen with these figures in view.

| on | ROC AUC | log loss | base rate | calibration error | participants |
| --- | --- | --- | --- | --- | --- |
{elsewhere}

| on | high | medium | low |
| --- | --- | --- | --- |
{confidence_elsewhere}

## Limits

- It knows the bots of the editions above. Bots change: between editions it is clearly less accurate, as the table shows
  where there are two.
- On other games and in other languages it knows less than its probabilities may say; see "Measured elsewhere".
- Scoring is 7 to 8 times as fast as a plain scikit-learn pipeline, alone and in batches; ten times was the aim, see
  `benchmarks/README.md`.
- A probability is no proof. Don't use it to accuse a person.
"""


def write_card(folder: Path, metrics: dict[str, Any]) -> None:
    """Write the card of these metrics to a model folder."""
    artifact = metrics["artifact"]
    text = _TEXT.format(
        version=metrics["version"],
        date=metrics["date"],
        file=artifact["file"],
        kilobytes=artifact["bytes"] / 1000,
        sha256=artifact["sha256"],
        sklearn=artifact["scikit-learn"],
        numpy=artifact["numpy"],
        pandas=artifact["pandas"],
        data="\n".join(
            f"| {data['name']} | {data['chats']} | {data['participants']} |"
            f" {data['bots'] / data['participants']:.0%} | `{data['sha256'][:16]}…` |"
            for data in metrics["trained_on"]
        ),
        measured=_figures(metrics["measured"]),
        confidence=_confidence(metrics["measured"]),
        so_far=_so_far(metrics["measured"]),
        elsewhere=_figures(metrics["elsewhere"]),
        confidence_elsewhere=_confidence(metrics["elsewhere"]),
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def _figures(rows: list[dict[str, Any]]) -> str:
    figures = ("roc_auc", "log_loss", "log_loss_of_base_rate", "calibration_error")
    lines = [[row["on"], *(f"{row[name]:.4f}" for name in figures), str(row["participants"])] for row in rows]
    return _lines(lines or [["not measured", *["–"] * 5]])


def _confidence(rows: list[dict[str, Any]]) -> str:
    def cell(level: dict[str, Any]) -> str:
        return "–" if level["accuracy"] is None else f"{level['accuracy']:.1%} of {level['share']:.0%}"

    lines = [[row["on"], *(cell(row["confidence"][name]) for name in ("high", "medium", "low"))] for row in rows]
    return _lines(lines or [["not measured", *["–"] * 3]])


def _so_far(rows: list[dict[str, Any]]) -> str:
    lines = [
        [row["on"], part["messages"], f"{part['roc_auc']:.4f}", f"{part['log_loss']:.4f}", str(part["participants"])]
        for row in rows
        for part in row.get("so_far", [])
    ]
    return _lines(lines)


def _lines(cells: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
