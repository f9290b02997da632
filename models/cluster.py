"""Score files of chats on many machines with Ray Data: what `models/bulk.py` does to lines, for `map_batches`.

Ray deals out the files, runs an actor with a model on each core, and repeats what a worker that died had not returned.
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bulk import load_classifier, score_lines
from .weights import SHIPPED


class ScoreLines:
    """Scores lines of JSON, a chat in each: `dataset.map_batches(ScoreLines, batch_size=256, concurrency=16)`."""

    def __init__(
        self,
        folder: str | PathLike[str] = SHIPPED,
        column: str = "text",
        expected_bot_share: float | None = None,
        *,
        finished: bool = False,
    ) -> None:
        """Load a model folder; `column` holds the lines, the rest is as in the command.

        Raises `ModelError`, and ValueError for a share that is not between 0 and 1.
        """
        self._classifier = load_classifier(Path(folder), expected_bot_share)
        self._column = column
        self._finished = finished

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return a batch, columns of shape (lines,), with two more columns.

        `score` is the prediction in JSON, the bytes that `bot-or-human score` writes, and "" for a line that is no
        chat; `error` says why it is none, and is "" for the others.
        """
        lines = [line.encode() for line in batch[self._column]]
        scored = score_lines(self._classifier, lines, finished=self._finished)
        return {
            **batch,
            "score": np.array([line.decode() if isinstance(line, bytes) else "" for line in scored], dtype=object),
            "error": np.array(["" if isinstance(line, bytes) else str(line) for line in scored], dtype=object),
        }
