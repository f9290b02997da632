"""What was learned: arrays, as the artifact holds them.

The artifact holds no code, and is read without running any.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from .features import N_BUCKETS
from .signals import OF_NGRAMS, SIGNALS
from .trees import Trees

ARTIFACT = "classifier.npz"
METRICS = "metrics.json"
# Of the artifact: a number and a checksum of the list of signals. The number increases whenever a signal is computed in
# another way, or the arrays or the way they are used change.
FORMAT = f"8-{crc32(repr(SIGNALS).encode()):08x}"
SHIPPED = Path(__file__).parent  # the folder of the artifact that comes with the project
COMMITTED = ".committed"  # folder of new files that have not been moved to their places yet (`train/files.py`)


class ModelError(Exception):
    """The model folder holds no artifact that this version can serve; the message says why in one line."""


@dataclass(frozen=True)
class Rules:
    """Numbers that were chosen, not fitted, stored so that changing one changes the version.

    `high`, `medium`: the least certainty for that confidence. `few_messages`, `known_letters`: there is no high
    confidence in a chat of so few messages, or for a participant with a smaller share of Cyrillic and Latin letters.
    `clip`: the mean of the randomised trees' probabilities stays this far from 0 and 1.
    """

    high: float
    medium: float
    few_messages: float
    known_letters: float
    clip: float


@dataclass(frozen=True)
class Weights:
    """All that was learned or chosen, as arrays.

    `ngrams`, shape (len(OF_NGRAMS), N_BUCKETS): what an n-gram adds to each of `OF_NGRAMS`. `boosted`: trees over
    `SIGNALS` with leaves in log odds, to be summed. `randomised`: trees with probabilities as leaves, to be averaged.
    `base`: share of bots among the game's participants. `typical`, shape (len(SIGNALS),): mean signals of the game's
    participants.
    """

    ngrams: NDArray[np.float32]
    boosted: Trees
    randomised: Trees
    base: float
    typical: NDArray[np.float32]
    rules: Rules

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays by name; the parts of trees and rules have names such as `rules.high`."""
        named = vars(self).copy()
        for name in ("boosted", "randomised", "rules"):
            named |= {f"{name}.{part}": value for part, value in vars(named.pop(name)).items()}
        return {name: np.asarray(value) for name, value in named.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild weights from what `arrays` returned; raises KeyError or ValueError if they are of another format."""
        weights = cls(
            ngrams=arrays["ngrams"],
            boosted=Trees(*(arrays[f"boosted.{part.name}"] for part in fields(Trees))),
            randomised=Trees(*(arrays[f"randomised.{part.name}"] for part in fields(Trees))),
            base=float(arrays["base"]),
            typical=arrays["typical"],
            rules=Rules(*(float(arrays[f"rules.{part.name}"]) for part in fields(Rules))),
        )
        if (weights.ngrams.shape, weights.typical.shape) != ((len(OF_NGRAMS), N_BUCKETS), (len(SIGNALS),)):
            raise ValueError("arrays for other features")
        return weights


def current(folder: Path, name: str) -> Path:
    """Return the path of a file in a folder that `train.files.replacing` writes to, whatever stopped the writing."""
    committed = folder / COMMITTED / name
    return committed if committed.exists() else folder / name


def read_artifact(folder: Path) -> tuple[Weights, str]:
    """Read the artifact of a model folder; returns the weights and their version.

    Raises `ModelError` if it is missing, damaged, of another format, or written with another major version of NumPy.
    """
    try:
        metrics = json.loads(current(folder, METRICS).read_text(encoding="utf-8"))
        version = str(metrics["version"])
        form, checksum, numpy = (metrics["artifact"][name] for name in ("format", "sha256", "numpy"))
        content = current(folder, ARTIFACT).read_bytes()
    except OSError as error:
        raise ModelError(f"{error.filename}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / METRICS}: cannot be read: {error!r}") from None
    if form != FORMAT:
        raise ModelError(f"{folder}: the artifact has format {form}, this version reads {FORMAT}; train it again")
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ModelError(
            f"{folder / ARTIFACT}: the checksum differs from that in {METRICS}; the file is damaged or from another"
            " training run"
        )
    # another major version may compute with other types, as NumPy 2 does (NEP 50), and so give other answers
    if str(numpy).split(".")[0] != np.__version__.split(".")[0]:
        raise ModelError(
            f"{folder}: the artifact was written with numpy {numpy}, this is {np.__version__};"
            f" install numpy {numpy} or train again"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return Weights.from_arrays(arrays), version
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"{folder / ARTIFACT}: not an artifact of format {FORMAT}: {error!r}") from None
