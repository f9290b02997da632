"""What a user can do to the commands of `python -m train`: it ends in one line, and no model is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from models.classifier import Classifier
from models.weights import COMMITTED, METRICS, SHIPPED, ModelError
from tests.conftest import CURL_CHAT, ROOT, SAMPLE, free_port, make_chat, running, send, start_server, wait_until
from train.__main__ import main
from train.artifact import check_artifact, read_trained_on
from train.card import CARD
from train.data import FINGERPRINT, Edition, fingerprint, read_editions, write_edition
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
    """Return the one line with which a command fails."""
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("relabel", "chats", "error"),
    [
        (only(0), None, "0 of 40 chats are with a bot"),
        (list, 3, "of 3 chats are with a person"),
    ],
)
def test_data_that_is_too_little_to_train_on_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], relabel: Relabel, chats: int | None, error: str
) -> None:
    data = write_data(tmp_path / "data", relabel, chats=chats)
    line = error_of([str(data), "--out", str(tmp_path / "model"), "--quiet"], capsys)
    assert line.startswith("train: data: ")
    assert error in line
    assert line.endswith("training and cross-validation need at least 5 with a person and 5 with a bot")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("label", "missing"), [(0, "bots"), (1, "people")])
def test_data_of_people_or_of_bots_only_is_measured_without_an_auc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], label: int, missing: str
) -> None:
    data = write_data(tmp_path / "data", only(label))
    assert main(["evaluate", str(SHIPPED), str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"data, {FINISHED_CHATS}: no ROC AUC (no {missing}), log loss ")
    assert all(f"no ROC AUC (no {missing})" in line for line in lines)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of customer service in which a person opens each of the chats, which have three messages at most.

    Another data set holds people only. The model is registered in a BentoML home beside it.
    """
    folder = tmp_path_factory.mktemp("service")
    home = write_data(folder / "service", lambda of_chat: [0, 1, 0, 1][: len(of_chat)], messages=3)
    people = write_data(folder / "people", only(0), messages=5)
    out = folder / "model"
    arguments = ["-m", "train", str(home), "--elsewhere", str(people), "--out", str(out), "--store", "--quiet"]
    done = run(*arguments, BENTOML_HOME=str(folder))
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


def test_a_model_between_two_places_is_read_where_it_is(trained: Path, tmp_path: Path) -> None:
    """A command was killed when the new model was complete and only its metrics had been moved."""
    out = Path(shutil.copytree(SHIPPED, tmp_path / "model"))
    shutil.copytree(trained, out / COMMITTED)
    os.replace(out / COMMITTED / METRICS, out / METRICS)  # noqa: PTH105
    version = Classifier.load(trained).version
    assert Classifier.load(out).version == version
    assert Reference.load(out, version).version == version


def test_a_model_that_does_not_score_as_it_was_fitted_is_not_written(trained: Path) -> None:
    classifier = Classifier.load(trained)
    check_artifact(trained, classifier.weights, SAMPLE_EDITION.chats)
    with pytest.raises(ModelError, match="other probabilities"):
        check_artifact(trained, Classifier.load(SHIPPED).weights, SAMPLE_EDITION.chats)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample with 30 of the chats that the model was trained on, three messages of each, and 10 others."""
    folder = tmp_path_factory.mktemp("unseen") / "data"
    known = write_data(folder, messages=3)
    (edition,) = read_editions([known])
    chats = [
        chat if at % 4 else chat.model_copy(update={"messages": SAMPLE_EDITION.chats[at].messages[1:]})
        for at, chat in enumerate(edition.chats)
    ]
    labels = [
        of_chat if at % 4 else [1, 0][: len({message.participant_id for message in chats[at].messages})]
        for at, of_chat in enumerate(edition.labels)
    ]
    write_edition(folder, chats, labels)
    return folder


def test_chats_that_the_model_was_trained_on_are_left_out_or_on_demand_measured_and_marked(
    trained: Path, unseen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained), str(unseen)]) == 0
    left_out, first, *_ = capsys.readouterr().out.splitlines()
    assert left_out == "left out: 30 of 40 chats of data, which the model was trained on"
    assert first.startswith(f"data, {FINISHED_CHATS}: ROC AUC")
    assert first.endswith(", 20 answers")
    assert main(["evaluate", str(trained), str(unseen), "--include-trained"]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"data (trained on 30 of 40 chats), {FINISHED_CHATS}: ROC AUC")
    assert first.endswith(", 80 answers")


def test_nothing_is_measured_where_the_model_was_trained_on_everything(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained), str(trained.parent / "service"), str(trained.parent / "people")]) == 1
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


def test_a_chat_in_several_folders_is_used_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, other = write_data(tmp_path / "home"), write_data(tmp_path / "other", chats=3)
    assert main([str(home), "--elsewhere", str(other), "--out", str(tmp_path / "model")]) == 1
    said = capsys.readouterr()
    assert said.out == "left out: 3 of 3 chats of other, which are in another folder, too\n"
    assert said.err == "train: other: all chats are in another folder, too\n"
    (tmp_path / "copy").mkdir()
    again = write_data(tmp_path / "copy" / "home")
    assert "several folders with the name home" in error_of([str(home), str(again)], capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file where a folder is expected."""
    (tmp_path / "file").write_text("old")
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([str(SAMPLE), "--out", "{file}/model"], "{file}/model: cannot be written: Not a directory"),
        (["evaluate", "{file}", str(SAMPLE)], "{file}/metrics.json: Not a directory"),
        (["evaluate", str(SHIPPED), "{file}"], "{file}/train.json: Not a directory"),
        (
            ["predict", str(SHIPPED), str(SAMPLE / "train.json"), "--out", str(SAMPLE)],
            "sample: cannot be written: Is a",
        ),
        (["predict", str(SHIPPED), str(SAMPLE), "--out", "{file}"], f"{SAMPLE}: Is a directory"),
        (["reference", "{file}", str(SAMPLE)], "{file}/metrics.json: Not a directory"),
    ],
)
def test_a_file_in_the_place_of_a_folder_and_a_folder_in_that_of_a_file(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], error: str
) -> None:
    assert error.format(file=file) in error_of([part.format(file=file) for part in arguments], capsys)
    assert file.read_text() == "old"


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


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[str]:
    """Run a service of another kind, which answers everything the same; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Be silent."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"<html>hello</html>", "the answer is not one of this service"),
        (200, b'{"is_bot_probability": "secret"}', "the answer is not one of this service"),
        (404, b"<p>\nno such page</p>" * 100, "404 for a chat: <p> no such page</p>"),
    ],
)
def test_replay_to_another_service_is_an_error_of_one_line(
    capsys: pytest.CaptureFixture[str], status: int, body: bytes, error: str
) -> None:
    with answering(body, status) as url:
        line = error_of(["replay", url, str(SAMPLE), "--quiet"], capsys)
    assert error in line
    assert len(line) < 400


def test_replay_needs_the_model_that_the_service_has(capsys: pytest.CaptureFixture[str]) -> None:
    """Or it could not tell which chats that model was trained on."""
    with answering(b'{"model_version": "other", "is_bot_probability": 0.5}') as url:
        arguments = ["replay", url, str(SAMPLE), "--quiet"]
        assert "model other answers, and" in error_of(arguments, capsys)
        assert main([*arguments, "--include-trained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "model other may have been trained on any of these chats"
    assert lines[1].startswith(f"sample, {streamed(1)}: ROC AUC 0.5000")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (f"http://127.0.0.1:{free_port()}", "Connection refused"),
        ("localhost:8000", "unsupported protocol"),
        ("http://[", "http://["),
        ("", "Request URL is missing an 'http://' or 'https://' protocol"),
    ],
)
def test_replay_to_nobody_is_an_error_of_one_line(capsys: pytest.CaptureFixture[str], url: str, error: str) -> None:
    assert error in error_of(["replay", url, str(SAMPLE), "--quiet"], capsys)


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


def test_a_model_of_the_store_is_served_unless_another_is_named(trained: Path, tmp_path: Path) -> None:
    store = {"BENTOML_HOME": str(trained.parent), "MODEL": f"{NAME}:latest"}
    with running(tmp_path, **store) as server:
        assert send(f"{server.url}/predict", CURL_CHAT).json["model_version"] == Classifier.load(trained).version
    refused = start_server(tmp_path, **store, MODEL_FOLDER=str(trained))
    assert refused.exit_code() != 0
    assert "MODEL: Set either MODEL or MODEL_FOLDER" in refused.log.read_text()


def test_data_sets_are_not_read_from_files_that_were_half_written(tmp_path: Path) -> None:
    """A command was killed when the new data set was complete and only its labels had been moved."""
    folder = write_data(tmp_path / "data")
    new = write_data(folder / COMMITTED, only(0))
    os.replace(new / "ytrain.csv", folder / "ytrain.csv")  # noqa: PTH105
    (edition,) = read_editions([folder])
    assert isinstance(edition, Edition)
    assert {label for of_chat in edition.labels for label in of_chat} == {0}
