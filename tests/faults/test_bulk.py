"""Bulk scoring: every line once and in order, whatever is in the file and whatever stops the run."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest

from models import bulk
from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import CURL_CHAT, RAY_PYTHON, ROOT, SAMPLE, sample_bodies, wait_until

COMMAND = [sys.executable, "-m", "models", "score"]
# The same, with small chunks and a state after each of them.
IN_SMALL_STEPS = (
    "import sys; from models import __main__, bulk, score_files; bulk.CHUNK, score_files.SAVED = 10_000, 0;"
    "sys.exit(__main__.main(sys.argv[1:]))"
)
SMALL_STEPS = [sys.executable, "-c", IN_SMALL_STEPS, "score"]


def score(
    *arguments: str | Path,
    stdin: bytes | None = None,
    check: bool = True,
    command: Sequence[str] = COMMAND,
    folder: Path = ROOT,
) -> "subprocess.CompletedProcess[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *arguments], cwd=folder, env=environment, input=stdin, capture_output=True)
    assert done.returncode == 0 or not check, done.stderr.decode()
    return done


def lines_of(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def write_chats(file: Path, chats: int) -> None:
    """Write the sample's chats again and again, each with its number as `chat_id`."""
    bodies = sample_bodies()
    with file.open("w", encoding="utf-8") as lines:
        for number in range(chats):
            print(json.dumps({**bodies[number % len(bodies)], "chat_id": number}), file=lines)


def rounded(classifier: Classifier, body: dict[str, Any]) -> Any:
    """Return what is expected of a line."""
    prediction = classifier.predict([Chat.model_validate(body)])[0].model_dump()
    for side in prediction["participants"]:
        side["is_bot_probability"] = round(side["is_bot_probability"], 6)
    return prediction


def test_each_chat_gets_the_classifiers_answer_in_order(tmp_path: Path, classifier: Classifier) -> None:
    write_chats(tmp_path / "chats", 1_000)
    assert (tmp_path / "chats").stat().st_size > 2 * bulk.CHUNK
    score(tmp_path / "chats", "--out", tmp_path / "scores", "--processes", "2")
    expected = [rounded(classifier, body) for body in sample_bodies()]
    assert lines_of(tmp_path / "scores") == [{**expected[at % len(expected)], "chat_id": at} for at in range(1_000)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chats", "scores"]


def test_a_packed_file_a_pipe_and_the_game_s_format_give_the_same(tmp_path: Path) -> None:
    lines = "".join(json.dumps(body) + "\n" for body in sample_bodies()).encode()
    (tmp_path / "packed").write_bytes(gzip.compress(lines[:999]) + gzip.compress(lines[999:]))
    expected = score("-", "--out", "-", stdin=lines).stdout
    assert expected.count(b"\n") == len(sample_bodies())
    assert score(tmp_path / "packed", "--out", "-").stdout == expected
    assert score("-", "--out", "-", stdin=b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n\n")[:-2]).stdout == expected
    assert score(SAMPLE / "train.json", "--out", "-").stdout == expected
    game = (SAMPLE / "train.json").read_bytes()
    assert score("-", "--out", "-", stdin=gzip.compress(game)).stdout == expected
    assert score("-", "--out", "-", stdin=b"").stdout == score("-", "--out", "-", stdin=b"\n \n").stdout == b""


@pytest.mark.parametrize(("arguments", "field"), [(["--finished"], {}), ([], {"finished": True})])
def test_settings_reach_the_workers(arguments: list[str], field: dict[str, bool]) -> None:
    """`--finished` makes each chat what the field `finished` makes it, and the share is that of the classifier."""
    lines = "".join(json.dumps({**body, **field}) + "\n" for body in sample_bodies()).encode()
    found = score("-", *arguments, "--expected-bot-share", "0.02", "--out", "-", stdin=lines).stdout.splitlines()
    rare = Classifier.load(expected_bot_share=0.02)
    expected = [rounded(rare, {**body, "finished": True}) for body in sample_bodies()]
    assert [json.loads(line) for line in found] == expected


INVALID_LINES: list[tuple[bytes, str]] = [
    (b"{", "line: not valid JSON"),
    (b'"text"', "line: Input should be an object"),
    (b'{"chat_id": 1}', "messages: Field required"),
    (b'{"chat_id": 1, "messages": [{"message_id": 0, "participant_id": 1}]}', "messages[0].text: Field required"),
    (b'{"chat_id": "\xff", "messages": [{"message_id": 0, "text": "a", "participant_id": 1}]}', "line: not valid JSON"),
    (b"[" * 100_000, "line: not valid JSON"),
]
INVALID_DIALOGS: list[tuple[bytes, str]] = [
    (b"[]", "messages: List should have at least 1 item after validation, not 0"),
    (b'[{"message": 0,\n"text": 1, "participant_index": 0}]', "messages[0].text: Input should be a valid string"),
]


def test_a_chat_that_is_not_valid_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    good = json.dumps(CURL_CHAT).encode()
    lines = b"\n".join([line for bad, _ in INVALID_LINES for line in (bad, b"", good)])
    said = b'[{"message": 0, "text": "hi", "participant_index": "0"}]'
    dialogs = [dialog for bad, _ in INVALID_DIALOGS for dialog in (bad, said)]
    game = b"{%s}" % b",\n".join(b'"%d": %s' % (number, dialog) for number, dialog in enumerate(dialogs))
    for content, kind, step, invalid in ((lines, "line", 3, INVALID_LINES), (game, "dialog", 2, INVALID_DIALOGS)):
        (tmp_path / "chats").write_bytes(content)
        done = score(tmp_path / "chats", "--out", tmp_path / "scores", "--rejected", tmp_path / "bad")
        assert done.stderr.decode().endswith(f"; {len(invalid)} lines were rejected\n")
        expected = [{kind: step * number + 1, "error": error} for number, (_, error) in enumerate(invalid)]
        assert lines_of(tmp_path / "bad") == expected
        assert len(lines_of(tmp_path / "scores")) == len(invalid)


@pytest.mark.parametrize("last", [b"\n", b""])
def test_a_line_without_an_end_takes_no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, last: bytes) -> None:
    """The rest of a line that is too long is not kept, and the lines after it have their numbers."""
    monkeypatch.setattr(bulk, "CHUNK", 1_000)
    monkeypatch.setattr(bulk, "LONGEST_LINE", 2_000)
    (tmp_path / "chats").write_bytes(b"a\n" + b"x" * 100_000 + b"\nb\n" + b"y" * 100_000 + last)
    with (tmp_path / "chats").open("rb") as file:
        chunks, kind = bulk.open_chats(file)
        found = list(chunks)
    assert kind == "line"
    assert max(len(chunk) for chunk in found) <= 3_001
    (first, second, third, fourth, *rest) = b"".join(found).split(b"\n")
    assert (first, third) == (b"a", b"b")
    assert len(second) > 2_000 < len(fourth)
    assert rest in ([b""], [])


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [], "b": [[{"x": "}],\\"\\\\"}], 1, {}] ,\n "c\\"\\\\": [true]}',
        '\ufeff {"é": ["\\ud800 \u2028 \U0001f600"]\n}\n',
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1_000])
def test_dialogs_are_cut_out_wherever_the_reads_end(monkeypatch: pytest.MonkeyPatch, text: str, chunk: int) -> None:
    monkeypatch.setattr(bulk, "CHUNK", chunk)
    chunks = bulk._chunks_of_dialogs(BytesIO(text.encode()))
    found = [json.loads(line) for part in chunks for line in part.split(b"\n") if line]
    expected = json.loads(text.removeprefix("\ufeff"))
    assert found == [{"chat_id": name, "messages": messages} for name, messages in expected.items()]


@pytest.mark.parametrize(
    ("name", "content", "arguments", "error"),
    [
        ("chats", json.dumps([CURL_CHAT], indent=1).encode(), "chats --out scores", "chats: no line is a chat; JSON"),
        ("chats", gzip.compress(b"\n" * 10_000)[:-20], "chats --out scores", "damaged: Compressed file ended before"),
        ("chats", b'{"a": [{"message": 0}], "b" 3}', "chats --out scores", "dialog 2: not valid JSON"),
        ("scores.state", b"{}", "chats --out scores --resume", "scores.state: is not the state of a run; delete it to"),
        ("other", b"", "no-such-file --out scores", "no-such-file: No such file or directory"),
        ("other", b"", "chats --out no/folder", "No such file or directory"),
        ("other", b"", "chats --out chats", "chats: would be overwritten"),
        ("other", b"", "chats --out scores --rejected chats", "chats: would be overwritten"),
        ("other", b"", "chats --out scores --model no-model", "no-model/metrics.json: No such file"),
        ("other", b"", "chats --out - --resume", "--resume needs a file"),
    ],
)
def test_what_cannot_be_scored_is_named_in_one_line(
    tmp_path: Path, name: str, content: bytes, arguments: str, error: str
) -> None:
    (tmp_path / "chats").write_text(json.dumps(CURL_CHAT) + "\n")
    (tmp_path / name).write_bytes(content)
    done = score(*arguments.split(), check=False, folder=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("bot-or-human: ")
    assert error in line


def chunks_done(state: Path) -> int:
    return int(json.loads(state.read_bytes())["chunks"]) if state.exists() else 0


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with chats, some lines in the middle that are none, and what a run makes of them at once."""
    folder = tmp_path_factory.mktemp("complete")
    write_chats(folder / "chats", 1_500)
    with (folder / "chats").open("r+b") as file:
        file.seek(500_000)
        file.write(b"\n\n{}\n[]\n")
    score(folder / "chats", "--out", folder / "scores", command=SMALL_STEPS)
    assert len(lines_of(folder / "scores")) > 1_400
    assert len(lines_of(folder / "scores.rejected")) >= 3
    return folder


def test_a_run_that_was_killed_is_resumed_to_the_same_bytes(complete: Path, tmp_path: Path) -> None:
    """Whether the command was killed, or one of its workers."""
    chats, out, state = complete / "chats", tmp_path / "scores", tmp_path / "scores.state"
    arguments: list[str | Path] = [chats, "--processes", "2", "--quiet", "--out", out]

    def refused(*arguments: str | Path, stdin: bytes | None = None) -> str:
        return score(*arguments, stdin=stdin, check=False, command=SMALL_STEPS).stderr.decode()

    for victim, code in (("worker", 1), ("command", -signal.SIGKILL)):
        before = chunks_done(state)
        resumed = ["--resume"] * (before > 0)
        with subprocess.Popen([*SMALL_STEPS, *arguments, *resumed], cwd=ROOT, stderr=subprocess.PIPE) as process:
            wait_until(lambda before=before: chunks_done(state) > before)  # type: ignore[misc]
            process.send_signal(signal.SIGSTOP)
            second = refused(*arguments, "--resume")
            workers = psutil.Process(process.pid).children()
            (workers[-1] if victim == "worker" else process).kill()
            process.send_signal(signal.SIGCONT)
            _, error = process.communicate()
        assert "scores: another run is writing this file" in second
        assert process.returncode == code, "it was killed before it was done"
        assert (b"a worker process died" in error) == (victim == "worker")
        wait_until(lambda those=workers: not any(map(_runs, those)))  # type: ignore[misc]
    assert "continue it with --resume" in refused(*arguments)
    other_share = refused(*arguments, "--resume", "--expected-bot-share", "0.1")
    assert "expected bot share of the game, finished False; this is model" in other_share
    other = chats.read_bytes().replace(b"a", b"b", 1)
    assert "not the input of the run that was interrupted" in refused("-", *arguments[1:], "--resume", stdin=other)
    score(*arguments, "--resume", command=SMALL_STEPS)
    for name in ("", ".rejected"):
        assert (tmp_path / f"scores{name}").read_bytes() == (complete / f"scores{name}").read_bytes()
    assert not state.exists()
    assert "is complete" in refused(*arguments, "--resume")


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_reader_that_leaves_ends_the_run(tmp_path: Path) -> None:
    write_chats(tmp_path / "chats", 2_000)
    command = " ".join([*COMMAND, str(tmp_path / "chats"), "--out - | head -n 3"])
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert done.stdout.count(b"\n") == 3
    assert done.stderr == b""


@pytest.mark.ray
def test_a_cluster_whose_worker_is_killed_gives_the_bytes_of_the_command(tmp_path: Path) -> None:
    """Every line is there once; `ray_run.py` has the cluster of two nodes, and kills a worker in the middle."""
    write_chats(tmp_path / "chats", 500)
    lines = (tmp_path / "chats").read_bytes().splitlines()
    (tmp_path / "chats").write_bytes(b"\n".join([*lines[:300], b'{"chat_id": 1}', *lines[300:]]))
    score(tmp_path / "chats", "--finished", "--expected-bot-share", "0.1", "--out", tmp_path / "expected")
    script = Path(__file__).with_name("ray_run.py")
    done = subprocess.run(
        [RAY_PYTHON, script, tmp_path / "chats", tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"},  # or a busy machine starves them
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "killed").exists()
    assert len(list(tmp_path.glob("node-*"))) == 2, "both nodes had workers"
    assert (tmp_path / "scores").read_bytes() == (tmp_path / "expected").read_bytes()
    assert lines_of(tmp_path / "errors") == [line["error"] for line in lines_of(tmp_path / "expected.rejected")]
