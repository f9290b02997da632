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

    def __init__(self, folder: str | PathLike[str] = SHIPPED, column: str = "text") -> None:
        """Load a model folder; `column` holds the lines. Raises `ModelError`."""
        self._classifier = load_classifier(Path(folder))
        self._column = column

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return a batch, columns of shape (lines,), with two more columns.

        `score` is the prediction in JSON, the bytes that `bot-or-human score` writes, and "" for a line that is no
        chat; `error` says why it is none, and is "" for the others.
        """
        scored = score_lines(self._classifier, [line.encode() for line in batch[self._column]])
        return {
            **batch,
            "score": np.array([line.decode() if isinstance(line, bytes) else "" for line in scored], dtype=object),
            "error": np.array(["" if isinstance(line, bytes) else str(line) for line in scored], dtype=object),
        }
