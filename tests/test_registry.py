"""BentoML's model store: registering a model, what BentoML's commands say of it, and serving it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from models.classifier import Classifier
from models.weights import ARTIFACT, METRICS
from tests.conftest import CURL_CHAT, ROOT, SAMPLE, running, send, start_server
from train.registry import NAME


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a BentoML home of the test's own, in which a model of the sample is registered."""
    folder = tmp_path_factory.mktemp("bentoml")
    command = ["-m", "train", str(SAMPLE), "--out", str(folder / "trained"), "--store", "--quiet"]
    assert f"BentoML's model store: {NAME}:" in run(folder, *command)
    return folder


def run(home: Path, *arguments: str) -> str:
    environment = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def version_of(home: Path) -> str:
    return Classifier.load(home / "trained").version


def test_bentoml_lists_the_model_once_with_the_figures_of_its_card_and_exports_it(home: Path, tmp_path: Path) -> None:
    again = f"from pathlib import Path; from train.registry import register; register(Path({str(home / 'trained')!r}))"
    run(home, "-c", again)
    (listed,) = json.loads(run(home, "-m", "bentoml", "models", "list", "-o", "json"))
    assert listed["tag"] == f"{NAME}:{version_of(home)}"
    shown = yaml.safe_load(run(home, "-m", "bentoml", "models", "get", listed["tag"], "-o", "yaml"))
    metrics = json.loads((home / "trained" / METRICS).read_text())
    for row in metrics["measured"]:
        assert shown["metadata"]["measured"][f"{row['on']}; {row['how']}"]["roc_auc"] == row["roc_auc"]
    run(home, "-m", "bentoml", "models", "export", f"{NAME}:latest", str(tmp_path / "model.zip"))
    shutil.unpack_archive(tmp_path / "model.zip", tmp_path / "model")
    assert (tmp_path / "model" / ARTIFACT).read_bytes() == (home / "trained" / ARTIFACT).read_bytes()
    assert Classifier.load(tmp_path / "model").version == version_of(home)


def test_a_model_of_the_store_is_served(home: Path, tmp_path: Path) -> None:
    with running(tmp_path, BENTOML_HOME=str(home), MODEL=f"{NAME}:latest") as server:
        assert send(f"{server.url}/predict", CURL_CHAT).json["model_version"] == version_of(home)


def test_two_models_are_refused_in_one_line(home: Path, tmp_path: Path) -> None:
    server = start_server(tmp_path, BENTOML_HOME=str(home), MODEL=f"{NAME}:latest", MODEL_FOLDER=str(home / "trained"))
    assert server.exit_code() != 0
    assert "MODEL: Set either MODEL or MODEL_FOLDER" in server.log.read_text()
