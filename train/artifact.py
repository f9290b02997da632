"""Write what serving loads: the arrays, and the metrics with the checksum of the arrays."""

import hashlib
import io
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sklearn

from models.chat import Chat
from models.classifier import Classifier
from models.weights import ARTIFACT, FORMAT, METRICS, ModelError, Weights, current
from train.data import FINGERPRINT, Edition, fingerprint
from train.evaluate import Measured


def write_artifact(
    folder: Path,
    weights: Weights,
    editions: Sequence[Edition],
    measured: Sequence[Measured],
    people: Sequence[Measured] = (),
) -> dict[str, Any]:
    """Write artifact and metrics to an empty folder; returns the metrics.

    The same data, seed, library versions and kernels of OpenBLAS give the same artifact, byte for byte; only the
    metrics hold the date. OpenBLAS chooses its kernels by the processor, or takes those that `OPENBLAS_CORETYPE` names.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **weights.arrays())  # type: ignore[arg-type]
    checksum = hashlib.sha256(buffer.getvalue()).hexdigest()
    metrics = {
        "version": checksum[:12],
        "date": datetime.now(UTC).date().isoformat(),
        "artifact": {
            "file": ARTIFACT,
            "format": FORMAT,
            "sha256": checksum,
            "bytes": len(buffer.getvalue()),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        "trained_on": [
            {
                "name": edition.name,
                "chats": len(edition.chats),
                "participants": sum(map(len, edition.labels)),
                "bots": sum(map(sum, edition.labels)),
                "sha256": edition.sha256,
                "fingerprints": b64encode(b"".join(sorted({fingerprint(c) for c in edition.chats}))).decode(),
            }
            for edition in editions
        ],
        "measured": [part.row() for part in measured],
        "people": [part.row() for part in people],
    }
    (folder / ARTIFACT).write_bytes(buffer.getvalue())
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def read_trained_on(folder: Path) -> tuple[str, frozenset[bytes]]:
    """Return the version of a model, and the fingerprints of the chats that it was trained on.

    Raises `ModelError` if the folder does not say.
    """
    file = current(folder, METRICS)
    try:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        joined = b"".join(b64decode(data["fingerprints"], validate=True) for data in metrics["trained_on"])
        version = str(metrics["version"])
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{file}: does not say which chats the model was trained on: {error!r}") from None
    return version, frozenset(joined[at : at + FINGERPRINT] for at in range(0, len(joined), FINGERPRINT))


def check_artifact(folder: Path, weights: Weights, chats: Sequence[Chat]) -> None:
    """Load a model folder as serving does; raises `ModelError` unless it scores these chats as the weights do."""
    stored = Classifier.load(folder)
    found, expected = (one.assess(chats).probabilities for one in (stored, Classifier(weights, stored.version)))
    if not np.array_equal(found, expected):  # NaN is not equal to itself
        raise ModelError(f"{folder}: the stored model gives other probabilities than the fitted one, or none")
