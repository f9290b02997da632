"""Register a model folder in BentoML's model store, where `MODEL=name:version` serves it from."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException, NotFound

from models.weights import ARTIFACT, METRICS, current
from train.card import CARD
from train.data import DataError
from train.reference import REFERENCE
from train.report import REPORT

NAME = "bot_or_human"
_FIGURES = ("roc_auc", "log_loss", "calibration_error", "answers")


def register(folder: Path) -> str:
    """Copy a model folder into the store; returns the tag, `bot_or_human:version`.

    The card's figures become metadata: `bentoml models get` shows them. The same model is not registered twice. Raises
    `DataError` if the store cannot be written to.
    """
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"  # or the store would report to BentoML that a model was saved
    metrics = json.loads(current(folder, METRICS).read_text(encoding="utf-8"))
    tag = f"{NAME}:{metrics['version']}"
    try:
        bentoml.models.get(tag)
    except NotFound:
        _copy(folder, tag, metrics)
    except (BentoMLException, OSError) as error:
        raise DataError(f"BentoML's model store: {error}") from None
    return tag


def _copy(folder: Path, tag: str, metrics: dict[str, Any]) -> None:
    metadata = {
        "date": metrics["date"],
        "trained_on": {data["name"]: data["sha256"] for data in metrics["trained_on"]},
        "measured": {
            f"{row['on']}; {row['how']}": {name: row[name] for name in _FIGURES if row[name] is not None}
            for row in metrics["measured"]
        },
    }
    labels = {"format": str(metrics["artifact"]["format"])}
    try:
        with bentoml.models.create(tag, labels=labels, metadata=metadata) as new:
            for name in (ARTIFACT, METRICS, REFERENCE, CARD, REPORT):
                if (file := current(folder, name)).exists():
                    shutil.copyfile(file, new.path_of(name))
            Path(new.path).chmod(0o755)  # BentoML makes it readable for this user alone, and a container has another
    except (BentoMLException, OSError) as error:
        raise DataError(f"BentoML's model store: {error}; the model is in {folder}") from None
