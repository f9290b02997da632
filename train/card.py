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

Two stages, fitted with scikit-learn. A logistic regression over hashed character n-grams (1 to 4), words and pairs of
words of both sides; then gradient boosted trees over what the regression says about both sides (from inner folds) and
over style: who opens, lengths, punctuation, capital letters, emoji, repetition, echoing. No text is stored: n-grams
are hashed to numbers, and only their weights are kept.

## Trained on

| data | chats | participants | bots | SHA-256 of the data |
| --- | --- | --- | --- | --- |
{data}

## Measured on chats the model was not fitted on

Whole chats are kept together. Log loss is in nats, with probabilities clipped to [0.001, 0.999].

| on | ROC AUC | log loss | participants |
| --- | --- | --- | --- |
{measured}

## Limits

- It knows the bots of the editions above. Bots change: between editions it is clearly less accurate, as the table shows
  where there are two.
- On other games, in other languages and on very short chats its probabilities are not to be trusted.
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
        measured="\n".join(
            f"| {row['on']} | {row['roc_auc']:.4f} | {row['log_loss']:.4f} | {row['participants']} |"
            for row in metrics["measured"]
        ),
    )
    (folder / CARD).write_text(text, encoding="utf-8")
