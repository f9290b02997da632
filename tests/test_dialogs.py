"""The platform's contract: one message at a time, on a real server and a real store."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from models.chat import Chat
from models.classifier import Classifier
from serving.dialogs.dialog import MAX_BYTES
from tests.conftest import (
    CURL_CHAT,
    SAMPLE,
    Answer,
    Server,
    is_ready,
    make_chat,
    running,
    sample_bodies,
    send,
    wait_until,
)
from tests.stores import PostgreSql, Sqlite
from train.__main__ import main
from train.data import read_editions, write_edition
from train.evaluate import measure

Store = Sqlite | PostgreSql


@pytest.fixture(
    scope="module",
    params=[pytest.param(Sqlite, id="sqlite"), pytest.param(PostgreSql, id="postgresql", marks=pytest.mark.postgresql)],
)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    made: Store = request.param()
    made.start()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def server(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), HISTORY_URL=store.url) as started:
        yield started


def message(text: str = "hi", dialog: str | None = None, who: int = 0) -> dict[str, Any]:
    return {"text": text, "dialog_id": dialog or str(uuid4()), "id": str(uuid4()), "participant_index": who}


def tell(server: Server, body: dict[str, Any]) -> Answer:
    return send(f"{server.url}/predict", body)


def probability(server: Server, body: dict[str, Any]) -> float:
    answer = tell(server, body)
    assert answer.status == 200, answer.text
    return float(answer.json["is_bot_probability"])


@cache
def shipped() -> Classifier:
    return Classifier.load()


def so_far(messages: list[dict[str, Any]]) -> dict[int | str, float]:
    """Return what the classifier says about the participants of a dialog that goes on."""
    said = [{"message_id": m["id"], "text": m["text"], "participant_id": m["participant_index"]} for m in messages]
    (answer,) = shipped().predict([Chat.model_validate({"chat_id": "x", "messages": said})])
    return {side.participant_id: side.is_bot_probability for side in answer.participants}


def test_the_contract(server: Server) -> None:
    body = message("Hi, how are you?")
    answer = tell(server, body)
    assert answer.status == 200
    assert set(answer.json) == {"id", "message_id", "dialog_id", "participant_index", "is_bot_probability"}
    assert (answer.json["message_id"], answer.json["dialog_id"]) == (body["id"], body["dialog_id"])
    assert answer.json["participant_index"] == 0
    assert UUID(answer.json["id"]).version == 4
    assert 0 < answer.json["is_bot_probability"] < 1


def test_a_chat_that_may_go_on_is_answered_as_the_messages_of_a_dialog_are(server: Server) -> None:
    """At each message, whoever wrote last gets the same answer both ways; only a finished chat gets another."""
    finished = []
    for body in sample_bodies()[:6]:
        dialog = str(uuid4())
        for number, part in enumerate(body["messages"], 1):
            told = probability(server, message(part["text"], dialog, part["participant_id"]))
            chat = body | {"messages": body["messages"][:number]}
            assert told == pytest.approx(of_last_speaker(server, chat), abs=1e-9)
        finished.append(of_last_speaker(server, body | {"finished": True}) - told)
    assert max(map(abs, finished)) > 1e-9


def of_last_speaker(server: Server, chat: dict[str, Any]) -> float:
    """Return what `/predict` says of a chat about whoever wrote last."""
    sides = tell(server, chat).json["participants"]
    last = chat["messages"][-1]["participant_id"]
    return float(next(side["is_bot_probability"] for side in sides if side["participant_id"] == last))


def test_a_retry_is_not_stored_twice_and_answers_the_same(server: Server, store: Store) -> None:
    first = message("one two three")
    before = probability(server, first)
    probability(server, message("what?", first["dialog_id"], 1))
    assert probability(server, first) == pytest.approx(before, abs=1e-12)
    assert store.query(f"SELECT count(*) FROM messages WHERE id = '{first['id']}'") == ["1"]  # noqa: S608


def test_the_same_id_with_other_content_is_a_conflict(server: Server) -> None:
    body = message()
    probability(server, body)
    for change in ({"text": "other"}, {"dialog_id": "other"}, {"participant_index": 1}):
        answer = tell(server, {**body, **change})
        assert answer.status == 409
        assert answer.json["detail"][0]["field"] == "id"


@pytest.mark.parametrize("field", ["text", "id", "dialog_id"])
def test_a_character_that_no_store_takes_is_the_clients_fault(server: Server, field: str) -> None:
    answer = tell(server, {**message(), field: "a\0b"})
    assert answer.status == 400
    assert answer.json["detail"][0]["field"] == field


@pytest.mark.parametrize("text", ["Привет 👋", "", " ", "'; DROP TABLE messages; --"])
def test_the_table_is_the_baselines(server: Server, store: Store, text: str) -> None:
    body = message(text, who=1)
    probability(server, body)
    where = f"FROM messages WHERE id = '{body['id']}'"
    for column, value in (("text", body["text"]), ("dialog_id", body["dialog_id"]), ("participant_index", "1")):
        assert store.query(f"SELECT {column} {where}") == [value]
    assert store.query(f"SELECT created_at {where}")[0].startswith("20")


@pytest.mark.parametrize("dialogs", [1, 50])
def test_fifty_clients(server: Server, store: Store, dialogs: int) -> None:
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
            expected = so_far(said)[said[-1]["participant_index"]]
            assert got[order[end - 1]] == pytest.approx(expected, abs=1e-9)


def test_a_dialog_has_limits(server: Server, store: Store) -> None:
    dialog, text = str(uuid4()), "😀" * 8_000  # 32,000 bytes
    fits = MAX_BYTES // 32_000
    answers = [tell(server, message(text, dialog)) for _ in range(fits + 1)]
    assert [answer.status for answer in answers] == [200] * fits + [413]
    assert answers[-1].json["detail"][0]["field"] == "dialog_id"
    assert store.query(f"SELECT count(*) FROM messages WHERE dialog_id = '{dialog}'") == [str(fits)]  # noqa: S608
    assert probability(server, message("short", dialog)) > 0


def under_load(server: Server, disturb: Callable[[], None]) -> tuple[list[dict[str, Any]], set[int]]:
    """Tell messages from 8 clients while something happens; returns what was answered 200, and all statuses."""
    answered: list[dict[str, Any]] = []
    statuses: set[int] = set()
    end = time.monotonic() + 3

    def client() -> None:
        dialog = str(uuid4())
        while time.monotonic() < end:
            body = message("a few words", dialog)
            try:
                answer = tell(server, body)
            except OSError:  # the server is gone
                time.sleep(0.05)
                continue
            statuses.add(answer.status)
            if answer.status == 200:
                answered.append(body)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    disturb()
    for thread in threads:
        thread.join()
    return answered, statuses


def all_stored(store: Store, answered: list[dict[str, Any]]) -> bool:
    return {body["id"] for body in answered} <= set(store.query("SELECT id FROM messages"))


def kill_service(server: Server, _: Store) -> None:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    for pid in [*children, str(server.process.pid)]:
        os.kill(int(pid), signal.SIGKILL)


def kill_store(_: Server, store: Store) -> None:
    store.kill()


def restart_store(_: Server, store: Store) -> None:
    store.stop()
    time.sleep(0.5)
    store.start()


@pytest.mark.parametrize("harm", [kill_service, kill_store, restart_store])
def test_what_was_answered_is_stored_whatever_ends_under_load(
    store: Store, tmp_path: Path, harm: Callable[[Server, Store], None]
) -> None:
    with running(tmp_path, HISTORY_URL=store.url) as server:
        answered, statuses = under_load(server, lambda: harm(server, store))
        assert answered
        assert statuses <= {200, 503}
        if harm is not kill_service:
            assert tell(server, message()).status == 200
    wait_until(lambda: all_stored(store, answered), 10)


def test_a_replay_over_http_measures_what_the_training_command_measures(
    server: Server, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    before = int(store.query("SELECT count(*) FROM messages")[0])
    assert main(["replay", server.url, str(SAMPLE), "--quiet"]) == 0
    shown = capsys.readouterr().out.splitlines()
    (edition,) = read_editions([SAMPLE])
    measured = measure(Classifier.load(), edition.name, edition.chats, edition.labels, finished=False)
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


def test_a_store_that_is_down_is_503_and_comes_back_by_itself(server: Server, store: Store) -> None:
    probability(server, message())
    store.stop()
    try:
        start = time.monotonic()
        answer = tell(server, message())
        assert answer.status == 503
        assert time.monotonic() - start < 2
        assert "store" in answer.json["error"]
        assert not is_ready(server.url)
        assert send(f"{server.url}/predict", CURL_CHAT).status == 200
    finally:
        store.start()
    wait_until(lambda: is_ready(server.url), 10)
    assert tell(server, message()).status == 200


def test_old_dialogs_are_deleted(store: Store, tmp_path: Path) -> None:
    with running(tmp_path, HISTORY_URL=store.url, HISTORY_DAYS="30") as server:
        old, new = message("soon forgotten"), message()
        probability(server, old)
        probability(server, new)
        store.query(f"UPDATE messages SET created_at = '2020-01-01 00:00:00' WHERE id = '{old['id']}'")  # noqa: S608
    kept = f"SELECT id FROM messages WHERE id IN ('{old['id']}', '{new['id']}')"  # noqa: S608
    with running(tmp_path, HISTORY_URL=store.url, HISTORY_DAYS="30"):
        wait_until(lambda: store.query(kept) == [new["id"]])


def test_a_body_that_is_neither_says_which_fields_make_which(server: Server) -> None:
    answer = tell(server, {"question": 1})
    assert answer.status == 400
    assert "chat_id, messages" in answer.text
    assert "text, dialog_id, id, participant_index" in answer.text
