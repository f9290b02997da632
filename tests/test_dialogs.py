"""The platform's contract: one message at a time, on a real server and a real store."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import (
    CURL_CHAT,
    SAMPLE,
    Reply,
    Server,
    is_ready,
    make_chat,
    running,
    sample_bodies,
    send,
    wait_until,
)
from tests.stores import BOTH, Store, empty_store
from train.__main__ import main
from train.data import read_editions, write_edition
from train.evaluate import measure


@pytest.fixture(scope="module", params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return empty_store(request, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def server(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), HISTORY_URL=store.url) as started:
        yield started


def message(text: str = "hi", dialog: str | None = None, who: int = 0) -> dict[str, Any]:
    return {"text": text, "dialog_id": dialog or str(uuid4()), "id": str(uuid4()), "participant_index": who}


def tell(server: Server, body: dict[str, Any]) -> Reply:
    return send(f"{server.url}/predict", body)


def probability(server: Server, body: dict[str, Any]) -> float:
    answer = tell(server, body)
    assert answer.status == 200, answer.text
    return float(answer.json["is_bot_probability"])


def so_far(classifier: Classifier, messages: list[dict[str, Any]]) -> dict[int | str, float]:
    """Return what the classifier says about the participants of a dialog that goes on."""
    said = [{"message_id": m["id"], "text": m["text"], "participant_id": m["participant_index"]} for m in messages]
    (answer,) = classifier.predict([Chat.model_validate({"chat_id": "x", "messages": said})])
    return {side.participant_id: side.is_bot_probability for side in answer.participants}


@pytest.mark.parametrize("text", ["Привет 👋", "", "'; DROP TABLE messages; --"])
def test_the_contract_and_the_columns_of_the_baseline(server: Server, store: Store, text: str) -> None:
    body = message(text, who=1)
    answer = tell(server, body).json
    assert UUID(answer.pop("id")).version == 4
    assert 0 < answer.pop("is_bot_probability") < 1
    assert answer == {"message_id": body["id"], "dialog_id": body["dialog_id"], "participant_index": 1}
    for column, value in (("text", text), ("dialog_id", body["dialog_id"]), ("participant_index", "1")):
        assert store.query(f"SELECT {column} FROM messages WHERE id = '{body['id']}'") == [value]  # noqa: S608


def test_a_chat_that_may_go_on_is_answered_as_the_last_message_of_a_dialog_is(server: Server) -> None:
    """A finished one is not."""
    for body in sample_bodies()[:6]:
        dialog = str(uuid4())
        for part in body["messages"]:
            told = probability(server, message(part["text"], dialog, part["participant_id"]))
        for finished in (False, True):
            sides = tell(server, body | {"finished": finished}).json["participants"]
            (of_last,) = (one["is_bot_probability"] for one in sides if one["participant_id"] == part["participant_id"])
            assert (of_last == pytest.approx(told, abs=1e-9)) is not finished


def test_a_message_is_stored_once_under_its_id(server: Server, store: Store) -> None:
    """Sent again, it gets the same answer; other content is a conflict."""
    first = message("one two three")
    before = probability(server, first)
    probability(server, message("what?", first["dialog_id"], 1))
    assert probability(server, first) == pytest.approx(before, abs=1e-12)
    for change in ({"text": "other"}, {"dialog_id": "other"}, {"participant_index": 1}):
        answer = tell(server, {**first, **change})
        assert (answer.status, answer.json["detail"][0]["field"]) == (409, "id")
    assert store.query(f"SELECT text FROM messages WHERE id = '{first['id']}'") == ["one two three"]  # noqa: S608


@pytest.mark.parametrize("dialogs", [1, 50])
def test_fifty_clients(server: Server, store: Store, classifier: Classifier, dialogs: int) -> None:
    """Each client's answer is that of the dialog up to its message, in the order in which they were stored."""
    names = [str(uuid4()) for _ in range(dialogs)]
    bodies = [message(f"words number {n}", names[n % dialogs], n % 2) for n in range(100)]
    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(lambda body: tell(server, body), bodies))
    assert [answer.status for answer in answers] == [200] * 100
    by_id = {body["id"]: body for body in bodies}
    got = {answer.json["message_id"]: answer.json["is_bot_probability"] for answer in answers}
    for name in names[:10]:
        order = store.query(f"SELECT id FROM messages WHERE dialog_id = '{name}' ORDER BY seq")  # noqa: S608
        assert len(order) == 100 // dialogs
        for end in range(1, len(order) + 1):
            said = [by_id[identifier] for identifier in order[:end]]
            expected = so_far(classifier, said)[said[-1]["participant_index"]]
            assert got[order[end - 1]] == pytest.approx(expected, abs=1e-9)


def test_what_was_answered_is_stored_whatever_ends_under_load(server: Server, store: Store, tmp_path: Path) -> None:
    """The store stops and is killed under 8 clients, and at last the service. An old dialog is deleted meanwhile."""
    answered: list[str] = []
    statuses: set[int] = set()
    ended = threading.Event()
    old = message("soon forgotten")
    probability(server, old)
    of_old = f"id = '{old['id']}'"
    store.query(f"UPDATE messages SET created_at = '2020-01-01 00:00:00' WHERE {of_old}")  # noqa: S608

    def keep_telling(server: Server) -> None:
        dialog = str(uuid4())
        while not ended.is_set():
            body = message("a few words", dialog)
            try:
                status = tell(server, body).status
            except OSError:  # the server is gone
                return
            statuses.add(status)
            if status == 200:
                answered.append(body["id"])

    def wait_for_answers() -> None:
        enough = len(answered) + 100
        wait_until(lambda: len(answered) > enough)

    with running(tmp_path, HISTORY_URL=store.url, HISTORY_DAYS="30") as other, ThreadPoolExecutor(8) as clients:
        try:
            for _ in range(8):
                clients.submit(keep_telling, other)
            wait_for_answers()
            wait_until(lambda: store.query(f"SELECT id FROM messages WHERE {of_old}") == [])  # noqa: S608
            store.stop()
            wait_until(lambda: statuses == {200, 503})
            wait_until(lambda: not is_ready(other.url))
            assert send(f"{other.url}/predict", CURL_CHAT).status == 200
            store.start()
            wait_until(lambda: is_ready(other.url))
            wait_for_answers()
            store.kill()
            wait_for_answers()
            for pid in [*other.workers(), other.process.pid]:
                os.kill(pid, signal.SIGKILL)
        finally:
            ended.set()
    assert statuses == {200, 503}
    wait_until(lambda: set(answered) <= set(store.query("SELECT id FROM messages")), 10)


def test_a_replay_over_http_measures_what_the_training_command_measures(
    server: Server, store: Store, classifier: Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    before = int(store.query("SELECT count(*) FROM messages")[0])
    assert main(["replay", server.url, str(SAMPLE), "--quiet"]) == 0
    shown = capsys.readouterr().out.splitlines()
    (edition,) = read_editions([SAMPLE])
    measured = measure(classifier, edition.name, edition.chats, edition.labels, finished=False)
    assert shown == [
        f"sample, {part.how}: ROC AUC {part.roc_auc():.4f}, log loss {part.log_loss():.4f}, {len(part.labels)} answers"
        for part in measured
        if part.how.startswith("streamed")
    ]
    said = sum(len(body["messages"]) for body in sample_bodies())
    assert int(store.query("SELECT count(*) FROM messages")[0]) == before + said


def test_a_replay_leaves_out_a_chat_that_the_service_rejects(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (edition,) = read_editions([SAMPLE])
    write_edition(
        tmp_path, [*edition.chats[:10], make_chat((0, "hi"), (1, "a" * 8_001))], [*edition.labels[:10], [0, 1]]
    )
    assert main(["replay", server.url, str(tmp_path), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "20 answers" in shown
    assert "left out: 1 chats that the service rejected (text: String should have at most 8000 characters)" in shown
