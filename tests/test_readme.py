"""The README's commands and examples, run as printed."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.weights import ARTIFACT, SHIPPED
from tests.conftest import CURL_CHAT, ROOT, SAMPLE, Server, free_port, is_ready, running, send, wait_until
from tests.engine import sh
from train.data import read_editions, write_edition

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for of_language, text in found if of_language == language]


@pytest.mark.service
def test_make_serve_starts_the_service(tmp_path: Path) -> None:
    """Here make takes what is installed as it is."""
    url = f"http://localhost:{(port := free_port())}"
    environment = {**os.environ, "BENTOML_PORT": str(port), "HISTORY_FOLDER": str(tmp_path)}
    command = ["make", "-o", f"{sys.prefix}/serving", f"VENV={sys.prefix}", "serve"]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        wait_until(lambda: is_ready(url) or process.poll() is not None)
        answer = send(f"{url}/predict", CURL_CHAT)
        process.terminate()
    assert answer.status == 200


@pytest.mark.curl
def test_the_requests_get_the_printed_answers(server: Server) -> None:
    commands = [block for block in blocks("") if block.startswith("curl -X POST http://localhost:8000/predict ")]
    answers = [json.loads(block) for block in blocks("json") if "is_bot_probability" in block]
    assert len(commands) == len(answers) == 2
    for command, answer in zip(commands, answers, strict=True):
        done = subprocess.run(
            ["bash", "-c", command.replace("http://localhost:8000", server.url)], check=True, capture_output=True
        )
        got = json.loads(done.stdout, parse_float=lambda number: round(float(number), 3))  # as the README does
        assert {**got, "id": answer.get("id")} == {**answer, "id": answer.get("id")}


def test_an_invalid_request_gets_the_printed_error(server: Server) -> None:
    answer = send(
        f"{server.url}/predict", {"chat_id": 1, "messages": [{"message_id": 0, "text": 7, "participant_id": 0}]}
    )
    (error,) = (json.loads(block) for block in blocks("json") if block.startswith('{"error"'))
    assert answer.status == 400
    assert answer.json == error


def test_the_python_client_works(server: Server, tmp_path: Path) -> None:
    (script,) = blocks("python")
    file = tmp_path / "client.py"
    file.write_text(script.replace("http://localhost:8000", server.url))
    done = subprocess.run([sys.executable, file], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.count("is_bot_probability") == 2


@pytest.mark.training
def test_the_commands_of_training_work_one_after_the_other(tmp_path: Path) -> None:
    """In a copy of the project, where `make train DATA=…` replaces the model; make takes what is installed as it is."""
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".*", "tests", "benchmarks", "__pycache__", "history"))
    (project / ".venv").symlink_to(Path(sys.prefix))
    (sample,) = read_editions([SAMPLE])
    for name, part in (("2025", slice(12)), ("2026", slice(12, 24)), ("2027", slice(24, None))):
        (project / "path/to" / name).mkdir(parents=True)
        write_edition(project / "path/to" / name, sample.chats[part], sample.labels[part])
    shutil.copy(SAMPLE / "train.json", project / "test.json")
    (block,) = [block for block in blocks("") if block.startswith("make train")]
    first, *commands, replay = block.replace("make ", "make -o .venv/development ").splitlines()
    sh(first, project)
    assert (project / "trained" / ARTIFACT).is_file()
    assert (project / "models" / ARTIFACT).read_bytes() == (SHIPPED / ARTIFACT).read_bytes()
    for command in commands:
        sh(command, project)
    with running(tmp_path, MODEL_FOLDER=str(project / "models")) as served:
        sh(replay.replace("http://localhost:8000", served.url), project)
    assert len((project / "submission.csv").read_text().splitlines()) == 1 + 2 * len(sample.chats)


def test_it_names_every_route(server: Server) -> None:
    assert set(re.findall(r"`POST (/\w+)`", README)) == set(send(f"{server.url}/docs.json").json["paths"])
    named = re.findall(r"`GET (/\w*)`", README)
    assert [send(f"{server.url}{path}").status for path in named] == [200] * 5


def test_variables_of_compose_are_set_where_they_last() -> None:
    """In `.env`, not in front of a command: a plain `docker compose up -d` would take them away again."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert re.findall(r"\b[A-Z_]+=\S+ docker\s+compose .*", page.read_text()) == []


def test_every_variable_of_compose_is_documented_and_in_the_example_environment_file() -> None:
    compose = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    assert compose
    assert compose <= set(re.findall(r"^(?:# )?(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    pages = "".join((ROOT / "docs" / name).read_text() for name in ("reference.md", "operation.md"))
    assert compose <= set(re.findall(r"`([A-Z_]+)`(?=[^|\n]*\|)", pages))
