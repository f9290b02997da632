"""What a user can do to the commands of `python -m train`: it ends in one line, and no model is lost."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from models.classifier import Classifier
from models.weights import COMMITTED, METRICS, SHIPPED, ModelError
from tests.conftest import CURL_CHAT, ROOT, SAMPLE, free_port, make_chat, running, send, wait_until
from train.__main__ import main
from train.artifact import check_artifact, read_trained_on
from train.card import CARD
from train.data import FINGERPRINT, LABELS, fingerprint, read_editions, write_edition
from train.evaluate import FINISHED_CHATS, WHOLE_CHATS, streamed
from train.files import UNFINISHED
from train.reference import DIALOGS, Reference
from train.registry import NAME
from train.report import REPORT

pytestmark = pytest.mark.training

SAMPLE_EDITION = read_editions([SAMPLE])[0]
Relabel = Callable[[list[int]], list[int]]


def write_data(folder: Path, relabel: Relabel = list, *, chats: int | None = None, messages: int | None = None) -> Path:
    """Write the sample's first chats, or all, with other labels, and only the first messages of each."""
    folder.mkdir()
    cut = [chat.model_copy(update={"messages": chat.messages[:messages]}) for chat in SAMPLE_EDITION.chats[:chats]]
    labels = [relabel(of_chat) for of_chat in SAMPLE_EDITION.labels[:chats]]
    speakers = [len({message.participant_id for message in chat.messages}) for chat in cut]
    write_edition(folder, cut, [of_chat[:number] for of_chat, number in zip(labels, speakers, strict=True)])
    return folder


def only(label: int) -> Relabel:
    return lambda of_chat: [label] * len(of_chat)


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command prints that fails in one line."""
    assert main(arguments) == 1
    printed, error = capsys.readouterr()
    assert len(error.splitlines()) == 1
    return printed + error


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of data sets.

    In that of customer service a person opens each of the chats, which have three messages at most.
    """
    folder = tmp_path_factory.mktemp("data")
    write_data(folder / "service", lambda of_chat: [0, 1, 0, 1][: len(of_chat)], messages=3)
    write_data(folder / "people", only(0), messages=5)
    write_data(folder / "bots", only(1))
    write_data(folder / "three", chats=3)
    shutil.copytree(SAMPLE, folder / "again" / "sample")
    (folder / "file").write_text("old")
    return folder


TOO_FEW = "training and cross-validation need at least 5 with a person and 5 with a bot"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("{data}/people --out {out}", f"people: 0 of 40 chats are with a bot; {TOO_FEW}"),
        ("{data}/three --out {out}", f"three: 3 of 3 chats are with a person; {TOO_FEW}"),
        (
            "{sample} --elsewhere {data}/three --out {out}",
            "left out: 3 of 3 chats of three, which are in another folder, too\ntrain: three: all chats are in another",
        ),
        ("{sample} {data}/again/sample --out {out}", "there are several folders with the name sample, by which"),
        ("{sample} --out {data}/file/model", "{data}/file/model: cannot be written: Not a directory"),
        ("evaluate {data}/file {sample}", "{data}/file/metrics.json: Not a directory"),
        ("evaluate {shipped} {data}/file", "{data}/file/train.json: Not a directory"),
        ("predict {shipped} {sample}/train.json --out {sample}", "{sample}: cannot be written: Is a directory"),
        ("predict {shipped} {sample} --out {out}", "{sample}: Is a directory"),
        ("reference {data}/file {sample}", "{data}/file/metrics.json: Not a directory"),
        (f"replay http://127.0.0.1:{free_port()} {{sample}}", "Connection refused"),
        ("replay localhost:8000 {sample}", "unsupported protocol"),
        ("replay http://[ {sample}", "http://["),
        ("replay '' {sample}", "Request URL is missing an 'http://' or 'https://' protocol"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line_and_nothing_is_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, error: str
) -> None:
    names = {"data": data, "sample": SAMPLE, "shipped": SHIPPED, "out": tmp_path / "out"}
    assert error.format(**names) in error_of(shlex.split(command.format(**names)), capsys)
    assert not list(tmp_path.iterdir())
    assert (data / "file").read_text() == "old"


@pytest.mark.parametrize(("name", "missing"), [("people", "bots"), ("bots", "people")])
def test_data_of_people_or_of_bots_only_is_measured_without_an_auc(
    data: Path, capsys: pytest.CaptureFixture[str], name: str, missing: str
) -> None:
    assert main(["evaluate", str(SHIPPED), str(data / name)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{name}, {FINISHED_CHATS}: no ROC AUC (no {missing}), log loss ")
    assert all(f"no ROC AUC (no {missing})" in line for line in lines)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of customer service, with people as another game; the BentoML home beside it has it, too."""
    folder = tmp_path_factory.mktemp("service")
    out = folder / "model"
    arguments = [data / "service", "--elsewhere", data / "people", "--out", out, "--store", "--quiet"]
    done = run("-m", "train", *map(str, arguments), BENTOML_HOME=str(folder))
    assert f"BentoML's model store: {NAME}:{Classifier.load(out).version}" in done.stdout, done.stderr
    return out


def run(*arguments: str, output: int = subprocess.PIPE, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with some arguments, and BentoML's telemetry off."""
    given = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=given, stdout=output, stderr=subprocess.PIPE, text=True, check=False
    )


def test_what_cannot_be_measured_is_said(trained: Path) -> None:
    rows = {(row["on"], row["how"]): row for row in json.loads((trained / METRICS).read_text())["measured"]}
    opened = rows["service, 5-fold cross-validation", streamed(1)]
    assert opened["roc_auc"] is None, "who opens is never a bot"
    assert 0 < opened["log_loss"] < 1
    assert rows["service, 5-fold cross-validation", FINISHED_CHATS]["roc_auc"] > 0.5
    assert rows["people, left out", WHOLE_CHATS]["roc_auc"] is None
    assert f"| people, left out | {WHOLE_CHATS} | – |" in (trained / CARD).read_text()
    assert "<td>–</td>" in (trained / REPORT).read_text()
    reference = Reference.load(trained, Classifier.load(trained).version)
    assert reference.of_kind[DIALOGS].chats == 0, "no chat is so long"


def test_a_training_says_how_long_it_takes_and_leaves_the_old_model_when_it_is_stopped(
    trained: Path, tmp_path: Path
) -> None:
    """`tests/test_files.py` stops the writing itself at every step."""
    out = Path(shutil.copytree(trained, tmp_path / "model"))
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    command = [sys.executable, "-m", "train", str(SAMPLE), "--out", str(out)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: any(out.glob(f"{UNFINISHED}*")))
        process.send_signal(signal.SIGINT)
        first, *_, last = process.communicate()[1].splitlines()
    assert process.returncode == 130
    assert first.startswith("train: 40 chats, ")
    assert "about a minute" in first
    assert last == "train: interrupted"
    assert {file.name: file.read_bytes() for file in out.iterdir() if file.is_file()} == before


def test_files_that_a_killed_command_had_not_moved_yet_are_read_where_they_are(trained: Path, tmp_path: Path) -> None:
    """The new model and the new data set were complete; only the metrics and the labels were in their place."""
    model, data = Path(shutil.copytree(SHIPPED, tmp_path / "model")), write_data(tmp_path / "data")
    shutil.copytree(trained, model / COMMITTED)
    write_data(data / COMMITTED, only(0))
    for file in (model / METRICS, data / LABELS):
        os.replace(file.parent / COMMITTED / file.name, file)  # noqa: PTH105
    version = Classifier.load(trained).version
    assert Classifier.load(model).version == version
    assert Reference.load(model, version).version == version
    (edition,) = read_editions([data])
    assert {label for of_chat in edition.labels for label in of_chat} == {0}


def test_a_model_that_does_not_score_as_it_was_fitted_is_not_written(trained: Path) -> None:
    classifier = Classifier.load(trained)
    check_artifact(trained, classifier.weights, SAMPLE_EDITION.chats)
    with pytest.raises(ModelError, match="other probabilities"):
        check_artifact(trained, Classifier.load(SHIPPED).weights, SAMPLE_EDITION.chats)


def test_chats_that_the_model_was_trained_on_are_left_out_or_on_demand_measured_and_marked(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (edition,) = read_editions([data / "service"])
    chats = [
        chat if at % 4 else chat.model_copy(update={"messages": [*chat.messages, chat.messages[0]]})
        for at, chat in enumerate(edition.chats)
    ]
    write_edition(tmp_path, chats, edition.labels)
    name = tmp_path.name
    assert main(["evaluate", str(trained), str(tmp_path)]) == 0
    left_out, first, *_ = capsys.readouterr().out.splitlines()
    assert left_out == f"left out: 30 of 40 chats of {name}, which the model was trained on"
    assert first.startswith(f"{name}, {FINISHED_CHATS}: ROC AUC")
    assert first.endswith(", 20 answers")
    assert main(["evaluate", str(trained), str(tmp_path), "--include-trained"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{name} (trained on 30 of 40 chats), {FINISHED_CHATS}: ROC AUC")
    assert first.endswith(", 80 answers")
    assert main(["evaluate", str(trained), str(data / "service"), str(data / "people")]) == 1
    said = capsys.readouterr()
    assert "nothing is left to measure" in said.err
    assert "left out: 40 of 40 chats of people, which the model was trained on" in said.out


def test_the_shipped_model_knows_how_many_chats_it_was_trained_on() -> None:
    version, known = read_trained_on(SHIPPED)
    assert version == Classifier.load(SHIPPED).version
    chats = sum(data["chats"] for data in json.loads((SHIPPED / METRICS).read_text())["trained_on"])
    assert 0.99 * chats < len(known) <= chats, "few chats are the same as another one"


def test_chats_are_recognised_by_what_was_said_and_by_whom() -> None:
    chat = make_chat((0, "How about  the money?"), (1, "Who\nare you calling?"))
    same = make_chat((5, " how about the MONEY?"), (3, "Who are you calling? "))
    assert fingerprint(chat) == fingerprint(same)
    assert len(fingerprint(chat)) == FINGERPRINT
    others = [
        make_chat((0, "How about the money?"), (0, "Who are you calling?")),
        make_chat((0, "How about the money? Who"), (1, "are you calling?")),
        make_chat((0, "How about the money?")),
    ]
    assert len({fingerprint(one) for one in (chat, *others)}) == 4


def test_output_that_nobody_reads_is_an_error_of_one_line() -> None:
    reader, output = os.pipe()
    os.close(reader)
    done = run("-m", "train", "evaluate", str(SHIPPED), str(SAMPLE), output=output)
    os.close(output)
    assert (done.returncode, done.stderr) == (1, "train: [Errno 32] Broken pipe\n")


def test_a_name_that_no_terminal_can_show_is_shown_with_escapes(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff \xd0\xb4 $a^$")
    shutil.copytree(SAMPLE, tmp_path / name)
    done = run("-m", "train", "evaluate", str(SHIPPED), str(tmp_path / name), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"\\udcff \\u0434 $a^$, {FINISHED_CHATS}: ROC AUC")


def test_replay_to_another_service_or_model_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another model it could not tell which chats that model was trained on."""
    arguments = ["replay", "http://localhost", str(SAMPLE), "--quiet"]
    for status, body, error in (
        (200, "<html>hello</html>", "the answer is not one of this service"),
        (200, '{"is_bot_probability": "secret"}', "the answer is not one of this service"),
        (404, "<p>\nno such page</p>" * 100, "404 for a chat: <p> no such page</p>"),
        (200, '{"model_version": "other", "is_bot_probability": 0.5}', "model other answers, and"),
    ):
        answer = httpx.Response(status, text=body)
        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda *_, answer=answer: answer)
        line = error_of(arguments, capsys)
        assert error in line
        assert len(line) < 400
    assert main([*arguments, "--include-trained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "model other may have been trained on any of these chats"
    assert lines[1].startswith(f"sample, {streamed(1)}: ROC AUC 0.5000")


def test_bentoml_lists_the_model_once_with_the_figures_of_its_card_and_exports_it(
    trained: Path, tmp_path: Path
) -> None:
    def bentoml(*arguments: str) -> str:
        done = run("-m", "bentoml", "models", *arguments, BENTOML_HOME=str(trained.parent))
        assert done.returncode == 0, done.stderr
        return done.stdout

    again = f"from pathlib import Path; from train.registry import register; register(Path({str(trained)!r}))"
    assert run("-c", again, BENTOML_HOME=str(trained.parent)).returncode == 0
    (listed,) = json.loads(bentoml("list", "-o", "json"))
    version = Classifier.load(trained).version
    assert listed["tag"] == f"{NAME}:{version}"
    shown = yaml.safe_load(bentoml("get", listed["tag"], "-o", "yaml"))["metadata"]["measured"]
    for row in json.loads((trained / METRICS).read_text())["measured"]:
        assert shown[f"{row['on']}; {row['how']}"].get("roc_auc") == row["roc_auc"]
    bentoml("export", f"{NAME}:latest", str(tmp_path / "model.zip"))
    shutil.unpack_archive(tmp_path / "model.zip", tmp_path / "model")
    assert Classifier.load(tmp_path / "model").version == version
    refused = run("-c", again, BENTOML_HOME="/dev/null").stderr.splitlines()[-1]
    assert refused.startswith("train.data.DataError: BentoML's model store: ")


def test_a_model_of_the_store_is_served(trained: Path, tmp_path: Path) -> None:
    store = {"BENTOML_HOME": str(trained.parent), "MODEL": f"{NAME}:latest"}
    with running(tmp_path, **store) as server:
        assert send(f"{server.url}/predict", CURL_CHAT).json["model_version"] == Classifier.load(trained).version
