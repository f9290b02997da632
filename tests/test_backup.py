"""The backup of a SQLite file: whole under load, and back again while the service runs."""

import itertools
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from tests.conftest import ROOT, running, send
from tests.stores import count_messages


def backup(what: str, history: Path, file: Path) -> str:
    """Run the command; returns what it said, which must have gone well."""
    done = run(what, f"HISTORY_FOLDER={history}", file)
    assert done.returncode == 0, done.stderr
    return done.stderr


def run(what: str, setting: str, file: Path) -> "subprocess.CompletedProcess[str]":
    command = ["env", setting, sys.executable, "-m", "serving.backup", what]
    with file.open("wb" if what == "save" else "rb") as stream:
        streams = {"stdout": stream} if what == "save" else {"stdin": stream, "stdout": subprocess.PIPE}
        return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False, **streams)


def say(url: str, number: int) -> int:
    message = {"text": "hi", "dialog_id": f"d{number % 7}", "id": str(number), "participant_index": number % 2}
    return send(f"{url}/predict", message).status


def test_a_copy_under_load_has_what_was_answered_and_comes_back_while_the_service_runs(tmp_path: Path) -> None:
    history, copy = tmp_path / "history", tmp_path / "copy.sqlite"
    stop = threading.Event()
    answered: list[int] = []
    with running(tmp_path, HISTORY_FOLDER=str(history), WORKERS="2") as server:

        def keep_saying() -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                assert say(server.url, number) == 200
                answered.append(number)

        client = threading.Thread(target=keep_saying)
        client.start()
        try:
            while len(answered) < 20:
                stop.wait(0.05)
            before = len(answered)
            backup("save", history, copy)
        finally:
            stop.set()
            client.join()
        copied = count_messages(copy)
        assert before <= copied <= len(answered)
        assert [file.name for file in tmp_path.glob("copy.sqlite*")] == ["copy.sqlite"]

        said = backup("restore", history, copy)
        assert f"restored {copied} messages" in said
        assert say(server.url, copied) == 200
        assert count_messages(history / "dialogs.sqlite") == copied + 1, "those after the copy are gone"
        assert sorted(path.name for path in history.glob("backup-*")) == []


def test_what_is_no_whole_copy_is_refused_and_the_dialogs_stay(tmp_path: Path) -> None:
    history, copy = tmp_path / "history", tmp_path / "copy.sqlite"
    with running(tmp_path, HISTORY_FOLDER=str(history)) as server:
        assert [say(server.url, number) for number in range(300)] == [200] * 300
        backup("save", history, copy)
        content = copy.read_bytes()
        with closing(sqlite3.connect(copy)) as connection, connection:
            connection.execute("UPDATE messages_version SET version = 99")
        newer = copy.read_bytes()
        for spoilt in (b"", content[: len(content) // 2], b"no database" * 999, newer):
            copy.write_bytes(spoilt)
            done = run("restore", f"HISTORY_FOLDER={history}", copy)
            assert done.returncode == 1
            assert len(done.stderr.splitlines()) == 1
            assert count_messages(history / "dialogs.sqlite") == 300
        assert say(server.url, 300) == 200


def test_with_postgresql_it_names_the_programs(tmp_path: Path) -> None:
    done = run("save", "HISTORY_URL=postgresql://user:password@localhost/database", tmp_path / "copy")
    assert (done.returncode, done.stderr) == (
        1,
        "backup: the dialogs are in PostgreSQL: use pg_dump and pg_restore\n",
    )
