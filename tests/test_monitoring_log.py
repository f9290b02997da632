"""The monitoring log: what a line holds and what it does not, rotation, and lost lines."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from bentoml.exceptions import BentoMLConfigException

from models.chat import Chat
from models.classifier import Assessment, Classifier
from models.signals import SIGNALS
from records.monitoring_log import LOGGED
from serving.scoring import monitoring
from serving.scoring.monitoring import FILES, Monitoring
from tests.conftest import Server, make_chat, running, sample_bodies, send, wait_until

CHAT = make_chat((0, "a secret message"), (1, "who are you"), (0, "guess"))
DIALOG = Chat.model_construct(chat_id="d", messages=CHAT.messages[:2])
FINISHED = CHAT.model_copy(update={"finished": True})
CROWD = {  # its line is larger than a file of one of four workers that share 10 MB
    "chat_id": 1,
    "messages": [{"message_id": number, "participant_id": number, "text": "a, b. C?"} for number in range(2000)],
}


def record(log: Monitoring, classifier: Classifier, *chats: Chat) -> Assessment:
    """Hand over chats, of which `DIALOG` came as the messages of a dialog; returns their assessment."""
    assessment = classifier.assess(chats)
    log.record(classifier, chats, [chat is DIALOG for chat in chats], assessment)
    return assessment


def read(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("predictions.*.jsonl*"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_line_holds_what_was_seen_and_answered_and_no_text_identifier_or_exact_time(
    tmp_path: Path, classifier: Classifier
) -> None:
    message = {"message_id": "id-secret", "participant_id": "participant-secret", "text": "text-secret"}
    alone = Chat.model_validate({"chat_id": "chat-secret", "messages": [message]})
    chats = [CHAT, FINISHED, DIALOG, alone]
    log = Monitoring(tmp_path, 10**7, workers=1)
    assessment = record(log, classifier, *chats)
    log.close()
    lines = read(tmp_path)
    assert [line["kind"] for line in lines] == ["chat", "finished", "dialog", "chat"]
    assert [line["messages"] for line in lines] == [3, 3, 2, 1]
    assert "secret" not in json.dumps(lines)
    for line in lines:
        assert line.keys() == {"time", "model", "format", "kind", "messages", "participants"}
        assert line["model"] == classifier.version
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", line["time"])
    cyrillic, latin = (SIGNALS.index(f"{name} letters") for name in ("Cyrillic", "Latin"))
    answers = [side for prediction in classifier.predict(chats) for side in prediction.participants]
    sides = [side for line in lines for side in line["participants"]]
    for side, answer, signals, score in zip(sides, answers, assessment.signals, assessment.score, strict=True):
        rounded = {
            "probability": answer.is_bot_probability,
            "confidence": answer.confidence,
            "score": score,
            "cyrillic": signals[cyrillic],
            "latin": signals[latin],
            "signals": signals[:LOGGED].tolist(),
        }
        assert {name: pytest.approx(value, abs=1e-4) for name, value in rounded.items()} == side


def test_files_are_rotated_and_stay_within_their_size(tmp_path: Path, classifier: Classifier) -> None:
    """A worker has files of its own, and one that starts again takes them over."""
    most = 200_000
    stays = Monitoring(tmp_path, most, workers=2)
    for _ in range(2):
        log = Monitoring(tmp_path, most, workers=2)
        for _ in range(60):
            record(log, classifier, *[CHAT] * 5)
            record(stays, classifier, *[CHAT] * 5)
        log.close()
    stays.close()
    files = sorted(tmp_path.glob("predictions.*.jsonl*"))
    assert len(files) == 2 * FILES
    assert most / 2 < sum(file.stat().st_size for file in files) <= most
    assert read(tmp_path)


def test_lines_that_wait_too_long_are_dropped_and_counted(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "MAX_WAITING", 10)
    monkeypatch.setattr(monitoring, "WRITE_EVERY", 60)
    log = Monitoring(tmp_path, 10**7, workers=1)
    for _ in range(8):
        record(log, classifier, CHAT)
    log.close()
    *lines, note = read(tmp_path)
    assert len(lines) == 5
    assert note["lost"] == 3


def test_lines_that_cannot_be_written_are_counted_until_they_can(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(monitoring, "WRITE_EVERY", 0.01)
    folder = tmp_path / "log"
    log = Monitoring(folder, 10**7, workers=1)
    moved = folder.rename(tmp_path / "moved")
    record(log, classifier, CHAT, CHAT)
    wait_until(lambda: "2 lines could not be written" in caplog.text, 5)
    moved.rename(folder)
    record(log, classifier, CHAT)
    log.close()
    line, note = read(folder)
    assert line["kind"] == "chat"
    assert note["lost"] == 2


def test_a_folder_that_cannot_be_written_is_rejected_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BentoMLConfigException, match=r"^MONITORING: cannot write to .*file/log: Not a directory$"):
        Monitoring.check(tmp_path / "file" / "log")
    (tmp_path / "log" / "predictions.0.lock").mkdir(parents=True)  # no worker could open it, as one of another user
    with pytest.raises(BentoMLConfigException, match=r"^MONITORING: cannot write to .*predictions.0.lock: [^\n]+$"):
        Monitoring.check(tmp_path / "log")


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Server, Path]:
    """Serve with a monitoring log, ask for all kinds of answers, and stop the server."""
    folder = tmp_path_factory.mktemp("monitored")
    bodies = sample_bodies()
    with running(folder, MONITORING=str(folder / "log"), MONITORING_MAX_MB="10", WORKERS="4") as server:
        for body in bodies[:10]:
            assert send(f"{server.url}/predict", body).status == 200
        assert send(f"{server.url}/predict_batch", {"chats": bodies[10:20]}).status == 200
        assert send(f"{server.url}/explain", bodies[20]).status == 200
        for number in range(3):
            message = {"text": "hi", "dialog_id": "d", "id": str(number), "participant_index": number % 2}
            assert send(f"{server.url}/predict", message).status == 200
        assert send(f"{server.url}/predict", CROWD).status == 200
        wait_until(lambda: "turing_test_monitoring_lost_lines_total 1.0" in send(f"{server.url}/metrics").text, 10)
    return server, folder / "log"


def test_workers_log_chats_batches_and_dialogs_and_say_what_is_lost(
    monitored: tuple[Server, Path], classifier: Classifier
) -> None:
    server, folder = monitored
    lines = read(folder)
    chats = [line for line in lines if line.get("kind") == "chat"]
    expected = classifier.predict([Chat.model_validate(body) for body in sample_bodies()[:20]])
    assert sorted(side["probability"] for line in chats for side in line["participants"]) == pytest.approx(
        sorted(side.is_bot_probability for answer in expected for side in answer.participants), abs=1e-4
    )
    assert sorted(line["messages"] for line in lines if line.get("kind") == "dialog") == [1, 2, 3]
    assert [line["lost"] for line in lines if "lost" in line] == [1]
    assert "MONITORING: 1 lines could not be written" in server.log.read_text()
