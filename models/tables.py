"""Results as HTML, for notebooks. Whatever comes from a chat is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from .chat import Chat, Explanation, Prediction

MOST_ROWS = 100  # of a table
_BOT, _HUMAN = "#c2410c", "#0f766e"  # either has a contrast of at least 4.5 on white, and is told apart by its side
_CELL = "padding:2px 8px;text-align:left"


def prediction_table(predictions: Sequence[Prediction]) -> str:
    """Return one table with a row for each participant: its probability of being a bot as a bar."""
    rows = [
        [
            escape(str(prediction.chat_id)),
            escape(str(side.participant_id)),
            f"{_bar(0, side.is_bot_probability, _BOT)} {side.is_bot_probability:.3f}",
            side.confidence,
        ]
        for prediction in predictions[:MOST_ROWS]
        for side in prediction.participants
    ]
    return _table(["chat", "participant", "probability of being a bot", "confidence"], rows) + _left_out(
        len(predictions), len(predictions[:MOST_ROWS])
    )


def explanation_table(explanation: Explanation, chat: Chat) -> str:
    """Return a table of signals and words for each participant; bars to the right speak for a bot."""
    texts = {message.message_id: message.text for message in chat.messages}
    parts = []
    for side in explanation.participants:
        heaviest = max((abs(signal.weight) for signal in side.signals), default=0) or 1
        rows = [
            [
                escape(signal.meaning.en),
                _bar(0.5, 0.5 + signal.weight / heaviest / 2, _colour(signal.weight)),
                f"{signal.weight:+.2f}",
            ]
            for signal in side.signals
        ]
        words = ", ".join(
            f"<span style='color:{_colour(span.weight)}'>{escape(texts[span.message_id][span.start : span.end])}</span>"
            f" {span.weight:+.2f}"
            for span in side.spans
        )
        parts.append(
            f"<p><b>Participant {escape(str(side.participant_id))}</b>: {side.is_bot_probability:.3f},"
            f" {side.confidence} confidence</p>"
            + _table(["what was looked at", "human ← → bot", "log odds"], rows)
            + f"<p>Words: {words or 'none'}</p>"
        )
    return "".join(parts)


def _bar(start: float, end: float, colour: str) -> str:
    """Return a bar that is filled between two shares of its width, each 0 to 1."""
    left, right = sorted((start, end))
    return (
        "<span style='display:inline-block;width:120px;background:#e5e7eb;vertical-align:middle'>"
        f"<span style='display:block;height:10px;margin-left:{100 * left:.1f}%;width:{100 * (right - left):.1f}%;"
        f"background:{colour}'></span></span>"
    )


def _colour(weight: float) -> str:
    return _BOT if weight > 0 else _HUMAN


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; the cells are HTML."""
    titles = "".join(f"<th style='{_CELL}'>{title}</th>" for title in head)
    lines = "".join("<tr>" + "".join(f"<td style='{_CELL}'>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _left_out(chats: int, shown: int) -> str:
    return f"<p>{shown:,} of {chats:,} chats are shown.</p>" if shown < chats else ""
