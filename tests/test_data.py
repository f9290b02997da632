"""Reading data: what is not exactly as the format says is refused in one line, never bent."""

import codecs
import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SAMPLE
from train.data import CHATS, LABELS, DataError, read_editions, write_edition

Dialogs = dict[str, list[dict[str, Any]]]
Text = Callable[[str], str]
FIRST = "sample-01"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "data"))


def rewrite(file: Path, change: Text) -> None:
    """Change a text in place; half a pair of surrogates becomes a byte that is not UTF-8."""
    file.write_text(change(file.read_text()), encoding="utf-8", errors="surrogateescape")


def dialogs(change: Callable[[Dialogs], object]) -> Text:
    """Return a change of the text from one that changes the dialogs in place."""

    def of_text(text: str) -> str:
        read = json.loads(text)
        change(read)
        return json.dumps(read)

    return of_text


def setting(name: str, value: object) -> Text:
    """Return a change of the second message of the first dialog."""
    return dialogs(lambda read: read[FIRST][1].update({name: value}))


def rows(change: Callable[[list[list[str]]], list[list[str]]]) -> Text:
    """Return a change of the text from one of the rows of a table."""
    return lambda text: "\n".join(map(",".join, change(list(csv.reader(text.splitlines())))))


def strings(read: Dialogs) -> None:
    for message in (message for messages in read.values() for message in messages):
        message["participant_index"] = str(message["participant_index"])


def twice(text: str) -> str:
    return f"{{{json.dumps(FIRST)}: {json.dumps(json.loads(text)[FIRST])}, {text.strip()[1:]}"


def as_windows_does(text: str) -> str:
    return codecs.BOM_UTF8.decode() + text.replace("\r\n", "\n").replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (CHATS, dialogs(strings)),
        (CHATS, as_windows_does),
        (LABELS, as_windows_does),
        (CHATS, twice),
        (LABELS, rows(lambda table: [*table, *table[1:5]])),
        (LABELS, rows(lambda table: [*([*row, "note"] for row in table), []])),
        (CHATS, setting("sent", "2026-01-01")),
    ],
)
def test_other_ways_of_writing_give_the_same(data: Path, name: str, change: Text) -> None:
    """The index as a string, Windows, duplicates that agree, blank lines, and columns and fields of other names."""
    rewrite(data / name, change)
    (read,), (sample,) = read_editions([data]), read_editions([SAMPLE])
    assert (read.chats, read.labels) == (sample.chats, sample.labels)


def wrong(line: str) -> Text:
    """Return a change that adds a line to the labels."""
    return lambda text: f"{text}{line}\n"


def said(messages: object) -> Text:
    """Return a change of the messages of the first dialog."""
    return dialogs(lambda read: read.update({FIRST: messages}))  # type: ignore[dict-item]


EXPECTED = "expected dialog_id,participant_index,is_bot"
WHOLE = "participant_index has to be a whole number, not"
WRONG_LABELS = [
    (wrong("nowhere,0,1"), ", line 82: dialog nowhere is not in train.json"),
    (wrong(f"{FIRST},7,0"), f", line 82: participant 7 has no message in dialog {FIRST}"),
    (wrong(f"{FIRST},0,0.4"), ", line 82: is_bot has to be 0 or 1, not '0.4'"),
    (wrong(f"{FIRST},0.7,0"), f", line 82: {WHOLE} '0.7'"),
    (wrong(f"{FIRST},{'9' * 5000},0"), f", line 82: {WHOLE} '{'9' * 39}"),
    (wrong(f"{FIRST},0,0,"), ", line 82: 4 values in 3 columns"),
    (wrong(f"{FIRST},0"), ", line 82: 2 values in 3 columns"),
    (wrong(f"{FIRST},1,0"), f", line 82: is_bot of dialog {FIRST}, participant 1 is 0 here and 1 in another line"),
    (lambda text: text.rstrip().rpartition("\n")[0], ": no label for dialog sample-40, participant 1"),
    (lambda text: text.replace(",", ";"), f", line 1: the separator is ';'; {EXPECTED}"),
    (lambda _: "", f", line 1: column dialog_id is missing; {EXPECTED}"),
    (lambda text: text.replace("_id,", "_id,is_bot,", 1), f", line 1: column is_bot is twice; {EXPECTED}"),
    (wrong('"open'), ": cannot be read: unexpected end of data"),
    (wrong("\udce8"), ": cannot be read: 'utf-8' codec can't decode byte 0xe8"),
]
DIALOG = f": dialog {FIRST}"
OBJECT = ": expected an object of dialogs by their identifier, found"
WRONG_DIALOGS = [
    (setting("participant_index", float("nan")), f"{DIALOG}, message 2: {WHOLE} nan"),
    (setting("participant_index", True), f"{DIALOG}, message 2: {WHOLE} True"),
    (setting("participant_index", "1.0"), f"{DIALOG}, message 2: {WHOLE} '1.0'"),
    (setting("participant_index", 10**20), f"{DIALOG}, message 2: {WHOLE} {10**20}"),
    (setting("message", "secret"), f"{DIALOG}, message 2: `message` has to be a whole number, not a string"),
    (setting("message", 0), f"{DIALOG}, message 2: `message` has to increase, and is 0 after 0"),
    (setting("text", ["secret"]), f"{DIALOG}, message 2: text has to be a string, not a list"),
    (dialogs(lambda read: read[FIRST][1].pop("text")), f"{DIALOG}, message 2: text is missing"),
    (said(["secret"]), f"{DIALOG}, message 1: expected message, text and participant_index, found a string"),
    (said([]), f"{DIALOG}: expected a list of messages, found an empty list"),
    (said({"text": "secret"}), f"{DIALOG}: expected a list of messages, found a JSON object"),
    (said(None), f"{DIALOG}: expected a list of messages, found None"),
    (
        lambda text: twice(text).replace('"text": "', '"text": "secret', 1),
        f"{DIALOG}: there are several with different messages",
    ),
    (
        lambda text: text.replace('"message": 0,', '"message": 0, "text": "secret",', 1),
        f"{DIALOG}, message 1: there are several values of text",
    ),
    (lambda _: "", ": cannot be read: Expecting value: line 1 column 1 (char 0)"),
    (lambda _: "[]", f"{OBJECT} an empty list"),
    (lambda _: "{}", f"{OBJECT} a JSON object"),
    (lambda _: '{"a": "\udcff"}', ": cannot be read: 'utf-8' codec can't decode byte 0xff in position 7: invalid"),
    (lambda _: "[" * 100_000, ": cannot be read: nested too deeply"),
    (lambda _: f'{{"a": {"9" * 5000}}}', ": cannot be read: Exceeds the limit (4300 digits)"),
]


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [(LABELS, *wrong) for wrong in WRONG_LABELS] + [(CHATS, *wrong) for wrong in WRONG_DIALOGS],
)
def test_wrong_data_are_refused_in_one_line_without_their_text(data: Path, name: str, change: Text, error: str) -> None:
    rewrite(data / name, change)
    with pytest.raises(DataError) as refused:
        read_editions([data])
    (line,) = str(refused.value).splitlines()
    assert re.sub(r"(message \d) of \d+", r"\1", line).startswith(f"{data / name}{error}")
    assert "secret" not in line


def test_what_is_written_can_be_read(data: Path) -> None:
    """Half an emoji, line ends and quotes in a text stay what they are, and so do empty texts and a negative index."""
    rewrite(data / CHATS, setting("text", '\ud83d "\r\n\u2028'))
    rewrite(data / CHATS, dialogs(lambda read: read[FIRST][2].update(text="")))
    rewrite(data / CHATS, lambda text: text.replace('"participant_index": 0', '"participant_index": -7'))
    rewrite(data / LABELS, rows(lambda table: [[row[0], re.sub("^0$", "-7", row[1]), row[2]] for row in table]))
    (edition,) = read_editions([data])
    assert [message.text for message in edition.chats[0].messages[1:3]] == ['\ud83d "\r\n\u2028', ""]
    (data / "written").mkdir()
    write_edition(data / "written", edition.chats, edition.labels)
    (written,) = read_editions([data / "written"])
    assert (written.chats, written.labels) == (edition.chats, edition.labels)
