"""The backup of a SQLite file: whole under load, and back again while the service runs."""

import itertools
import sqlite3
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import pytest
from bentoml.exceptions import BentoMLConfigException

from serving.backup import restore
from tests.conftest import ROOT, running, send
from tests.stores import Sqlite


def backup(what: str, setting: str, file: Path) -> "subprocess.CompletedProcess[str]":
    command = ["env", setting, sys.executable, "-m", "serving.backup", what]
    with file.open("wb" if what == "save" else "rb") as stream:
        streams = {"stdout": stream} if what == "save" else {"stdin": stream, "stdout": subprocess.PIPE}
        return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False, **streams)


def say(url: str, number: int) -> int:
    message = {"text": "hi", "dialog_id": f"d{number % 7}", "id": str(number), "participant_index": number % 2}
    return send(f"{url}/predict", message).status


def count(store: Sqlite) -> int:
    return int(store.query("SELECT count(*) FROM messages")[0])


def test_a_copy_under_load_has_what_was_answered_and_comes_back_while_the_service_runs(tmp_path: Path) -> None:
    """What is no whole copy is refused, and the dialogs stay."""
    store, copied = Sqlite(tmp_path / "history"), Sqlite(tmp_path)
    setting, copy = f"HISTORY_URL={store.url}", copied.file
    stop = threading.Event()
    answered: list[int] = []
    with running(tmp_path, HISTORY_URL=store.url, WORKERS="2") as server:

        def keep_saying() -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                assert say(server.url, number) == 200
                answered.append(number)

        client = threading.Thread(target=keep_saying)
        client.start()
        try:
            while len(answered) < 100:
                stop.wait(0.05)
            before = len(answered)
            assert backup("save", setting, copy).returncode == 0
        finally:
            stop.set()
            client.join()
        assert before <= count(copied) <= len(answered)
        assert [file.name for file in tmp_path.glob("dialogs.sqlite*")] == ["dialogs.sqlite"]

        content = copy.read_bytes()
        copied.query("UPDATE messages_version SET version = 99")
        for spoilt in (b"", content[: len(content) // 2], b"no database" * 999, copy.read_bytes()):
            with pytest.raises((sqlite3.Error, BentoMLConfigException)):
                restore(store.file, BytesIO(spoilt))
            assert count(store) == len(answered)

        copy.write_bytes(content)
        store.query("UPDATE messages_version SET version = 99")  # the way back from a newer version
        assert f"restored {count(copied)} messages" in backup("restore", setting, copy).stderr
        assert say(server.url, -1) == 200
        assert count(store) == count(copied) + 1, "those after the copy are gone"
        assert list(store.file.parent.glob("backup-*")) == []


def test_an_error_is_one_line_which_names_the_programs_for_postgresql(tmp_path: Path) -> None:
    (copy := tmp_path / "copy").write_text("no database")
    for what, url, error in (
        ("restore", f"sqlite:///{tmp_path}/dialogs.sqlite", "file is not a database"),
        (
            "save",
            "postgresql://user:password@localhost/database",
            "the dialogs are in PostgreSQL: use pg_dump and pg_restore",
        ),
    ):
        done = backup(what, f"HISTORY_URL={url}", copy)
        assert (done.returncode, done.stderr) == (1, f"backup: {error}\n")
