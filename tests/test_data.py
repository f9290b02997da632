"""Reading data: what is not exactly as the format says is refused in one line, never bent."""

import codecs
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SAMPLE
from train.data import CHATS, LABELS, DataError, read_editions, write_edition

Dialogs = dict[str, list[dict[str, Any]]]
FIRST = "sample-01"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "data"))


def rewrite(data: Path, change: Callable[[Dialogs], object]) -> None:
    """Change the dialogs in place."""
    dialogs = json.loads((data / CHATS).read_text())
    change(dialogs)
    (data / CHATS).write_text(json.dumps(dialogs))


def label_rows(data: Path) -> list[list[str]]:
    with (data / LABELS).open() as file:
        return list(csv.reader(file))


def rewrite_labels(data: Path, rows: list[list[str]]) -> None:
    with (data / LABELS).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def assert_same_as_the_sample(data: Path) -> None:
    (read,), (sample,) = read_editions([data]), read_editions([SAMPLE])
    assert (read.chats, read.labels) == (sample.chats, sample.labels)


def refusal(data: Path) -> str:
    """Return the error of reading a folder, without the folder."""
    with pytest.raises(DataError) as error:
        read_editions([data])
    (line,) = str(error.value).splitlines()
    return line.replace(f"{data}/", "")


def test_the_participant_index_may_be_a_string(data: Path) -> None:
    def to_strings(dialogs: Dialogs) -> None:
        for messages in dialogs.values():
            for message in messages:
                message["participant_index"] = str(message["participant_index"])

    rewrite(data, to_strings)
    assert_same_as_the_sample(data)


@pytest.mark.parametrize("name", [CHATS, LABELS])
def test_byte_order_mark_and_line_ends_of_windows(data: Path, name: str) -> None:
    content = (data / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    (data / name).write_bytes(codecs.BOM_UTF8 + content)
    assert_same_as_the_sample(data)


def test_empty_texts_blank_lines_and_other_columns_are_fine(data: Path) -> None:
    rows = label_rows(data)
    rewrite_labels(data, [[*row, "note"] for row in rows] + [[]])
    rewrite(data, lambda dialogs: dialogs[FIRST][0].update(text="", sent="2026-01-01"))
    (edition,) = read_editions([data])
    assert edition.chats[0].messages[0].text == ""
    assert edition.labels == read_editions([SAMPLE])[0].labels


def test_duplicates_that_agree_are_fine(data: Path) -> None:
    rows = label_rows(data)
    rewrite_labels(data, [*rows, *rows[1:5]])
    content = (data / CHATS).read_text()
    dialogs = json.loads(content)
    (data / CHATS).write_text(f"{{{json.dumps(FIRST)}: {json.dumps(dialogs[FIRST])}, {content.strip()[1:]}")
    assert_same_as_the_sample(data)


def test_a_missing_label_is_named(data: Path) -> None:
    rewrite_labels(data, label_rows(data)[:-1])
    assert refusal(data) == "ytrain.csv: no label for dialog sample-40, participant 1"


COLUMNS = "dialog_id,participant_index,is_bot"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("nowhere,0,1", "dialog nowhere is not in train.json"),
        (f"{FIRST},7,0", f"participant 7 has no message in dialog {FIRST}"),
        (f"{FIRST},0,2", "is_bot has to be 0 or 1, not '2'"),
        (f"{FIRST},0,0.4", "is_bot has to be 0 or 1, not '0.4'"),
        (f"{FIRST},0.7,0", "participant_index has to be a whole number, not '0.7'"),
        (f"{FIRST},,0", "participant_index has to be a whole number, not ''"),
        (f"{FIRST},{'9' * 5000},0", f"participant_index has to be a whole number, not '{'9' * 39}"),
        (f"{FIRST},0,0,", "4 values in 3 columns"),
        (f"{FIRST},0", "2 values in 3 columns"),
        (f"{FIRST},1,0", f"is_bot of dialog {FIRST}, participant 1 is 0 here and 1 in another line"),
    ],
)
def test_a_wrong_line_of_the_labels_is_named(data: Path, line: str, error: str) -> None:
    with (data / LABELS).open("a") as file:
        file.write(f"{line}\n")
    assert refusal(data) == f"ytrain.csv, line 82: {error}"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda text: text.replace(",", ";"), f", line 1: the separator is ';'; expected {COLUMNS}"),
        (lambda text: text.partition("\n")[2], f", line 1: column dialog_id is missing; expected {COLUMNS}"),
        (lambda _: "", f", line 1: column dialog_id is missing; expected {COLUMNS}"),
        (lambda text: text.replace("_id,", "_id,is_bot,", 1), f", line 1: column is_bot is twice; expected {COLUMNS}"),
        (lambda text: text.replace("0\n", "0,\n").replace("1\n", "1,\n"), ", line 2: 4 values in 3 columns"),
        (lambda text: f'{text}"open', ": cannot be read: unexpected end of data"),
    ],
)
def test_labels_in_another_format_are_refused(data: Path, change: Callable[[str], str], error: str) -> None:
    (data / LABELS).write_text(change((data / LABELS).read_text()))
    assert refusal(data) == f"ytrain.csv{error}"


def test_labels_in_another_encoding_are_refused(data: Path) -> None:
    (data / LABELS).write_bytes(f"{COLUMNS},имя\n".encode("cp1251"))
    assert "ytrain.csv: cannot be read: 'utf-8' codec can't decode" in refusal(data)


def setting(name: str, value: object) -> Callable[[Dialogs], object]:
    """Return a change of the second message of the first dialog."""
    return lambda dialogs: dialogs[FIRST][1].update({name: value})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (setting("participant_index", 0.7), "participant_index has to be a whole number, not 0.7"),
        (setting("participant_index", float("nan")), "participant_index has to be a whole number, not nan"),
        (setting("participant_index", True), "participant_index has to be a whole number, not True"),
        (setting("participant_index", None), "participant_index has to be a whole number, not None"),
        (setting("participant_index", "1.0"), "participant_index has to be a whole number, not '1.0'"),
        (setting("participant_index", 10**20), f"participant_index has to be a whole number, not {10**20}"),
        (setting("message", "secret"), "`message` has to be a whole number, not a string"),
        (setting("message", 0), "`message` has to increase, and is 0 after 0"),
        (setting("text", ["secret"]), "text has to be a string, not a list"),
        (lambda dialogs: dialogs[FIRST][1].pop("text"), "text is missing"),
        (
            lambda dialogs: dialogs[FIRST].__setitem__(1, "secret"),
            "expected message, text and participant_index, found a string",
        ),
    ],
)
def test_a_wrong_message_is_named_without_its_text(data: Path, change: Callable[[Dialogs], object], error: str) -> None:
    messages = len(json.loads((SAMPLE / CHATS).read_text())[FIRST])
    rewrite(data, change)
    assert refusal(data) == f"train.json: dialog {FIRST}, message 2 of {messages}: {error}"


@pytest.mark.parametrize(
    ("messages", "error"),
    [([], "an empty list"), ({"text": "secret"}, "a JSON object"), ("secret", "a string"), (None, "None")],
)
def test_a_dialog_that_is_no_list_of_messages_is_named(data: Path, messages: object, error: str) -> None:
    rewrite(data, lambda dialogs: dialogs.update({FIRST: messages}))  # type: ignore[dict-item]
    assert refusal(data) == f"train.json: dialog {FIRST}: expected a list of messages, found {error}"


def test_a_dialog_that_occurs_twice_is_refused(data: Path) -> None:
    content = (data / CHATS).read_text().strip()
    other = [{"message": 0, "text": "secret", "participant_index": 0}]
    (data / CHATS).write_text(f"{content[:-1]}, {json.dumps(FIRST)}: {json.dumps(other)}}}")
    assert refusal(data) == f"train.json: dialog {FIRST}: there are several with different messages"


def test_a_field_that_occurs_twice_is_refused(data: Path) -> None:
    content = (data / CHATS).read_text()
    (data / CHATS).write_text(content.replace('"message": 0,', '"message": 0, "text": "secret",', 1))
    assert "message 1 of" in (error := refusal(data))
    assert error.endswith(": there are several values of text")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "cannot be read: Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "expected an object of dialogs by their identifier, found an empty list"),
        (b"{}", "expected an object of dialogs by their identifier, found a JSON object"),
        (b'{"a": "\xff"}', "cannot be read: 'utf-8' codec can't decode byte 0xff in position 7: invalid start byte"),
        (b"[" * 100_000, "cannot be read: nested too deeply"),
        (b'{"a": %s}' % (b"9" * 5000), "cannot be read: Exceeds the limit (4300 digits)"),
    ],
)
def test_dialogs_that_cannot_be_read_are_refused(data: Path, content: bytes, error: str) -> None:
    (data / CHATS).write_bytes(content)
    assert refusal(data).startswith(f"train.json: {error}")


def test_what_is_written_can_be_read(data: Path) -> None:
    """Half an emoji, line ends and quotes in a text stay what they are, and so does a negative index."""
    rewrite(data, setting("text", '\ud83d "\r\n\u2028'))
    rewrite_labels(data, [[row[0], "-7" if row[1] == "0" else row[1], row[2]] for row in label_rows(data)])
    content = (data / CHATS).read_text()
    (data / CHATS).write_text(content.replace('"participant_index": 0', '"participant_index": -7'))
    (edition,) = read_editions([data])
    (data / "written").mkdir()
    write_edition(data / "written", edition.chats, edition.labels)
    (written,) = read_editions([data / "written"])
    assert (written.chats, written.labels) == (edition.chats, edition.labels)
