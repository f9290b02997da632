"""The lines of the monitoring log, which the service writes and `python -m train drift` reads.

A line is one chat, in JSON. It holds no text and nothing that leads to a person: no identifier of a chat, dialog,
message, participant, request or trace, and its time is cut to the minute, so that it cannot be matched with the store
of dialogs or an access log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from models.chat import Chat, Confidence
from models.classifier import Assessment, Classifier, confidence_of
from models.signals import OWN, SIGNALS
from models.weights import FORMAT, Rules

LOGGED = len(OWN)  # signals of a participant; those of "the other one" stand in the other's row
CONFIDENCES = get_args(Confidence)
Kind = Literal["chat", "finished", "dialog"]  # a chat that may go on, a finished one, or the dialog of a message
_CYRILLIC, _LATIN = SIGNALS.index("Cyrillic letters"), SIGNALS.index("Latin letters")


@dataclass(frozen=True, slots=True)
class Scored:
    """Chats that were scored together; `chats` holds the kind of each and its numbers of messages and participants."""

    version: str  # of the model
    rules: Rules
    minute: str
    chats: list[tuple[Kind, int, int]]
    signals: NDArray[np.float32]
    scores: list[float]
    probabilities: list[float]
    certainties: list[float]

    @classmethod
    def of(
        cls, classifier: Classifier, chats: Sequence[Chat], are_dialogs: Sequence[bool], assessment: Assessment
    ) -> Self:
        """Return what the log keeps of a classifier's assessment of some chats."""
        return cls(
            version=classifier.version,
            rules=classifier.weights.rules,
            minute=minute(),
            chats=[
                ("dialog" if is_dialog else "finished" if chat.finished else "chat", len(chat.messages), len(sides))
                for chat, is_dialog, sides in zip(chats, are_dialogs, assessment.sides, strict=True)
            ],
            signals=own_signals(assessment),
            scores=assessment.score.tolist(),
            probabilities=assessment.probabilities.tolist(),
            certainties=assessment.certainties.tolist(),
        )

    def lines(self) -> bytes:
        """Return one line of JSON for each chat."""
        rows = logged(self.signals).tolist()
        lines = []
        row = 0
        for kind, messages, participants in self.chats:
            line = {
                "time": self.minute,
                "model": self.version,
                "format": FORMAT,
                "kind": kind,
                "messages": messages,
                "participants": [
                    {
                        "probability": round(self.probabilities[at], 4),
                        "confidence": confidence_of(self.certainties[at], self.rules),
                        "score": round(self.scores[at], 4),
                        "cyrillic": rows[at][_CYRILLIC],
                        "latin": rows[at][_LATIN],
                        "signals": rows[at],
                    }
                    for at in range(row, row + participants)
                ],
            }
            lines.append(to_json(line))
            row += participants
        return b"\n".join(lines)


def own_signals(assessment: Assessment) -> NDArray[np.float32]:
    """Return the signals that are logged, (rows, LOGGED), not rounded yet."""
    return assessment.signals[:, :LOGGED].astype(np.float32)


def logged(signals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return signals as the log holds them."""
    return signals.astype(np.float64).round(4)


def minute() -> str:
    """Return the time of a line."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}"
