"""The library as it is installed: the wheel in an environment that holds nothing else."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import ROOT, sample_bodies

PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
NOTEBOOK = ROOT / "docs" / "library.ipynb"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install what `make wheel` builds into a new environment; returns its folder."""
    folder = tmp_path_factory.mktemp("wheel")
    _run("make", "wheel", f"DIST={folder}")
    (wheel,) = folder.glob("*.whl")
    uv = str(Path(sys.executable).with_name("uv"))
    _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder / "environment"))
    python = str(folder / "environment/bin/python")
    _run(uv, "pip", "install", "--quiet", "--python", python, "-c", "requirements.txt", str(wheel))
    return folder / "environment"


def _run(*command: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_needs_numpy_and_pydantic_alone(installed: Path, tmp_path: Path) -> None:
    script = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    listed = _run(str(installed / "bin/python"), "-c", script, cwd=tmp_path)
    of_pydantic = ["annotated-types", "pydantic_core", "typing-inspection", "typing_extensions"]
    assert sorted(listed.split()) == sorted(["bot-or-human", "numpy", "pydantic", *of_pydantic])


def test_its_command_scores_a_file_as_the_service_and_names_its_version(
    installed: Path, tmp_path: Path, classifier: Classifier
) -> None:
    command = str(installed / "bin/bot-or-human")
    version = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert _run(command, "--version").split() == version
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(body) + "\n" for body in sample_bodies()))
    (line,) = re.findall(r"^(bot-or-human score .*)$", PAGE, re.MULTILINE)
    _run(command, *line.split()[1:], cwd=tmp_path)
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    expected = classifier.predict([Chat.model_validate(body) for body in sample_bodies()])
    for score, prediction in zip(scores, expected, strict=True):
        for side in prediction.participants:
            side.is_bot_probability = round(side.is_bot_probability, 6)
        assert score == prediction.model_dump()


def test_a_file_that_is_scored_in_parts_gives_the_same_bytes(installed: Path, tmp_path: Path) -> None:
    """As docs/operation.md says for several machines, of which there are three here."""
    text = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")
    split, score, join = re.findall(r"`(split -n [^`]+|bot-or-human score part[^`]+|cat scores[^`]+)`", text)
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(body) + "\n" for body in sample_bodies()))
    each = f"for part in part.*; do {score.replace('aa', '${part#part.}')}; done"
    whole = "bot-or-human score chats.jsonl --out whole.jsonl"
    script = f"export PATH={installed}/bin:$PATH; set -e; {split.replace('10', '3')}; {each}; {whole}; {join} > joined"
    _run("bash", "-c", script, cwd=tmp_path)
    assert len(list(tmp_path.glob("part.*"))) == 3
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "whole.jsonl").read_bytes() != b""


def test_its_types_are_known(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(
        "from bot_or_human import Chat, Classifier, Prediction\n"
        "def first(chats: list[Chat]) -> Prediction:\n"
        "    return Classifier.load('folder').predict(chats)[0]\n"
        "wrong: int = Classifier.load().predict({'chat_id': 1})\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed / "bin/python"), "use.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[:-1] == [
        'use.py:4: error: Incompatible types in assignment (expression has type "Prediction", variable has type "int")'
        "  [assignment]"
    ]


def test_the_page_prints_what_it_says(installed: Path, tmp_path: Path) -> None:
    """Its Python blocks are one program; the block after each shows what it prints."""
    blocks = re.findall(r"^```python\n(.*?)^```\n\n(?:```\n(.*?)^```$)?", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    (tmp_path / "page.py").write_text("".join(code for code, _ in blocks))
    assert _run(str(installed / "bin/python"), "page.py", cwd=tmp_path) == "".join(printed for _, printed in blocks)


def test_the_notebook_runs_and_shows_tables(installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel is that of the tests; it finds the library where it is installed."""
    (packages,) = installed.glob("lib/python*/site-packages")
    monkeypatch.setenv("PYTHONPATH", os.fspath(packages))
    monkeypatch.setenv("IPYTHONDIR", os.fspath(tmp_path))
    (tmp_path / "library.ipynb").write_bytes(NOTEBOOK.read_bytes())
    assert not any(_outputs(NOTEBOOK)), "it is stored without outputs"
    _run(str(Path(sys.executable).with_name("jupyter-execute")), "--inplace", "library.ipynb", cwd=tmp_path)
    shown = [output["data"] for output in _outputs(tmp_path / "library.ipynb")]
    assert ["".join(data["text/html"]).count("<table>") for data in shown[:2]] == [1, 2]
    assert "".join(shown[2]["text/plain"]).count("is_bot_probability") == 4


def _outputs(notebook: Path) -> list[Any]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]
