"""The lines of the monitoring log, which the service writes and `python -m train drift` reads.

A line is one chat, in JSON. It holds no text and nothing that leads to a person: no identifier of a chat, dialog,
message, participant, request or trace, and its time is cut to the minute, so that it cannot be matched with the store
of dialogs or an access log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from models.chat import Chat, RunningDialog
from models.classifier import Assessment, confidence_of
from models.signals import SIGNALS
from models.weights import FORMAT

OWN = len(SIGNALS) // 2  # a participant's own signals come first; those of "the other one" stand in the other's row
_CYRILLIC, _LATIN = SIGNALS.index("Cyrillic letters"), SIGNALS.index("Latin letters")


@dataclass(frozen=True, slots=True)
class Scored:
    """Chats that were scored together; `chats` holds (is a running dialog, messages, participants) of each."""

    version: str  # of the model
    minute: str
    chats: list[tuple[bool, int, int]]
    signals: NDArray[np.float32]
    probabilities: list[float]
    home: list[float]
    words: list[float]

    @classmethod
    def of(cls, version: str, chats: Sequence[Chat], assessment: Assessment) -> Self:
        """Return what the log keeps of the assessment that a version of the model made of some chats."""
        return cls(
            version=version,
            minute=minute(),
            chats=[
                (isinstance(chat, RunningDialog), len(chat.messages), len(sides))
                for chat, sides in zip(chats, assessment.sides, strict=True)
            ],
            signals=own_signals(assessment),
            probabilities=assessment.probabilities.tolist(),
            home=assessment.home.tolist(),
            words=assessment.words.tolist(),
        )

    def lines(self) -> bytes:
        """Return one line of JSON for each chat."""
        rows = logged(self.signals).tolist()
        lines = []
        row = 0
        for running, messages, participants in self.chats:
            line = {
                "time": self.minute,
                "model": self.version,
                "format": FORMAT,
                "kind": "dialog" if running else "chat",
                "messages": messages,
                "words": round(self.words[row], 1),
                "home": round(self.home[row], 4),
                "participants": [
                    {
                        "probability": round(self.probabilities[at], 4),
                        "confidence": confidence_of(self.probabilities[at]),
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
    """Return the signals that are logged, (rows, OWN), not rounded yet."""
    return assessment.signals[:, :OWN].astype(np.float32)


def logged(signals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return signals as the log holds them."""
    return signals.astype(np.float64).round(4)


def minute() -> str:
    """Return the time of a line."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}"
