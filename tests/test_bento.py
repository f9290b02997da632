"""The Bento holds what serving needs, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.weights import SHIPPED
from serving.page import FOLDER
from tests.conftest import ROOT

BASE = "mirror.example/python:3.12-slim"


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Bento as `make image` does, in a store of its own, with a base image from a mirror."""
    store = tmp_path_factory.mktemp("store")
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag"],
        cwd=ROOT,
        env={**os.environ, "BENTOML_HOME": str(store), "BENTOML_DO_NOT_TRACK": "True", "BASE_IMAGE": BASE},
        check=True,
        capture_output=True,
        text=True,
    )
    tag = done.stdout.strip().split("__tag__:")[-1]
    name, version = tag.split(":")
    assert name == "turing_test_service"
    return store / "bentos" / name / version


def test_it_holds_what_is_served(bento: Path) -> None:
    source = bento / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    folders = ("models", "records", "serving")
    code = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py")}
    page = {
        path.relative_to(ROOT).as_posix()
        for path in FOLDER.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == code | page | {
        "service.py",
        "Dockerfile",
        "requirements.txt",
        "models/classifier.npz",
        "models/metrics.json",
        "bentofile.yaml",
    }
    assert (source / "models/classifier.npz").read_bytes() == (SHIPPED / "classifier.npz").read_bytes()


def test_its_image_has_the_base_that_was_named_and_gets_no_compiler(bento: Path) -> None:
    dockerfile = (bento / "env/docker/Dockerfile").read_text()
    assert f"FROM {BASE} " in dockerfile
    assert "uv venv --python 3.12 " in dockerfile
    assert "build-essential" not in dockerfile
    assert "git" not in dockerfile.split()


def test_its_schema_is_that_of_the_chat(bento: Path) -> None:
    """The interface that is stored with the Bento, for tools that read it without starting the service."""
    openapi = json.loads((bento / "apis/schema.json").read_text())
    assert {"predict", "predict_batch"} <= {route["name"] for route in openapi["routes"]}
