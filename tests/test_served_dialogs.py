"""Measuring and training on the dialogs that a service has stored."""

import asyncio
import csv
from pathlib import Path

import pytest

from models.chat import Chat
from models.weights import SHIPPED
from records.history_url import parse_history_url
from serving.dialogs.dialogs import Dialogs
from serving.schemas import PlatformMessage
from tests.conftest import SAMPLE
from tests.stores import BOTH, empty_store
from train.__main__ import main
from train.data import DataError, Edition, fingerprint, read_editions
from train.dialogs import read_served


@pytest.fixture(scope="module")
def edition() -> Edition:
    return read_editions([SAMPLE])[0]


async def send_all(url: str, chats: list[Chat]) -> None:
    """Send chats message by message, as the platform does: the dialogs take turns."""
    dialogs = Dialogs(parse_history_url(url))
    for number in range(max(len(chat.messages) for chat in chats)):
        for chat in chats:
            for message in chat.messages[number : number + 1]:
                of_dialog = {"dialog_id": str(chat.chat_id), "id": f"{chat.chat_id}-{number}"}
                who = int(message.participant_id)
                await dialogs.store_message(PlatformMessage(text=message.text, participant_index=who, **of_dialog))
    await dialogs.close()


@pytest.fixture(scope="module", params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, edition: Edition) -> str:
    """Return the URL of a store that holds the sample's dialogs."""
    store = empty_store(request, tmp_path_factory.mktemp("store"))
    asyncio.run(send_all(store.url, edition.chats))
    return store.url


def texts(chat: Chat) -> list[tuple[object, str]]:
    return [(message.participant_id, message.text) for message in chat.messages]


def texts_and_labels(edition: Edition) -> dict[str, object]:
    together = zip(edition.chats, edition.labels, strict=True)
    return {str(chat.chat_id): (texts(chat), labels) for chat, labels in together}


@pytest.mark.service
def test_served_dialogs_are_measured_as_they_were_streamed_and_written_as_a_folder_to_train_on(
    url: str,
    edition: Edition,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def evaluate(*arguments: str) -> list[str]:
        assert main(["evaluate", str(SHIPPED), *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    written, *measured = evaluate("--dialogs", url, str(SAMPLE / "ytrain.csv"), "--write", str(tmp_path))
    assert written == f"{tmp_path}: {len(edition.chats)} dialogs"
    assert measured == [
        line.replace("sample", "dialogs that were served", 1)
        for line in evaluate(str(SAMPLE))
        if ", streamed, " in line
    ]
    assert len(measured) == 5
    (read,) = read_editions([tmp_path])
    assert texts_and_labels(read) == texts_and_labels(edition)
    monkeypatch.setattr(
        "train.__main__.read_trained_on", lambda _: ("", frozenset(map(fingerprint, edition.chats[:30])))
    )
    left_out, *_ = evaluate("--dialogs", url, str(SAMPLE / "ytrain.csv"))
    assert left_out == "left out: 30 of 40 chats of dialogs that were served, which the model was trained on"


def write_labels(file: Path, *rows: tuple[object, ...]) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("dialog_id", "participant_index", "is_bot"), *rows])
    return file


def test_dialogs_that_are_gone_or_not_fully_labelled_are_left_out(url: str, edition: Edition, tmp_path: Path) -> None:
    mixed = next(at for at, labels in enumerate(edition.labels) if len(set(labels)) == 2)
    whole, half = edition.chats[mixed], edition.chats[mixed - 1]
    who = list(dict.fromkeys(message.participant_id for message in whole.messages))
    rows = [(whole.chat_id, one, label) for one, label in zip(who, edition.labels[mixed], strict=True)]
    others = [(half.chat_id, half.messages[0].participant_id, 1), ("gone", 0, 1)]
    served = read_served(url, write_labels(tmp_path / "labels.csv", *rows, *others))
    assert [texts(chat) for chat in served.chats] == [texts(whole)]
    assert served.labels == [edition.labels[mixed]]
    assert (served.missing, served.unlabelled) == (1, 1)
    with pytest.raises(DataError, match="of 2 dialogs the store holds 1, none of them with a label for everybody"):
        read_served(url, write_labels(tmp_path / "labels.csv", *others))


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("sqlite:///{folder}/dialogs.sqlite", "the store cannot be read: OperationalError"),
        ("postgresql://user:very-secret@127.0.0.1:1/database", "the store cannot be read: "),
        ("mysql://user:very-secret@host/database", "has to begin with postgresql:// or sqlite:///"),
        ("", "evaluate needs folders of data or --dialogs"),
    ],
)
def test_a_store_that_cannot_be_read_exits_with_1_and_shows_no_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, error: str
) -> None:
    """And is not made."""
    labels = write_labels(tmp_path / "labels.csv", ("d", 0, 1))
    dialogs = ["--dialogs", url.format(folder=tmp_path), str(labels)] if url else []
    assert main(["evaluate", str(SHIPPED), *dialogs]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert error in line
    assert "secret" not in line
    assert list(tmp_path.iterdir()) == [labels]
