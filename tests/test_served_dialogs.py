"""Measuring and training on the dialogs that a service has stored."""

import asyncio
import csv
from pathlib import Path

import pytest

from models.chat import Chat
from models.weights import SHIPPED
from serving.dialogs.dialogs import Dialogs
from serving.schemas import PlatformMessage
from tests.conftest import SAMPLE
from tests.stores import BOTH, empty_store
from train.__main__ import main
from train.artifact import write_artifact
from train.data import DataError, Edition, read_editions
from train.dialogs import read_served
from train.fit import fit, tabulate


@pytest.fixture(scope="module")
def edition() -> Edition:
    return read_editions([SAMPLE])[0]


def send_all(url: str, chats: list[Chat]) -> None:
    """Send chats message by message, as the platform does: the dialogs take turns."""

    async def send() -> None:
        dialogs = Dialogs(url)
        for number in range(max(len(chat.messages) for chat in chats)):
            for chat in chats:
                for message in chat.messages[number : number + 1]:
                    await dialogs.store_message(
                        PlatformMessage(
                            text=message.text,
                            dialog_id=str(chat.chat_id),
                            id=f"{chat.chat_id}-{number}",
                            participant_index=int(message.participant_id),
                        )
                    )
        await dialogs.close()

    asyncio.run(send())


@pytest.fixture(scope="module", params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, edition: Edition) -> str:
    """Return the URL of a store that holds the sample's dialogs."""
    store = empty_store(request, tmp_path_factory.mktemp("store"))
    send_all(store.url, edition.chats)
    return store.url


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, edition: Edition) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_artifact(folder, fit(tabulate([edition])).weights(), [edition], [])
    return folder


def texts(chat: Chat) -> list[tuple[object, str]]:
    return [(message.participant_id, message.text) for message in chat.messages]


def test_served_dialogs_are_written_as_a_folder_to_train_on(
    url: str, edition: Edition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(SHIPPED), "--dialogs", url, str(SAMPLE / "ytrain.csv"), "--write", str(tmp_path)]
    assert main(arguments) == 0
    assert f"{len(edition.chats)} dialogs" in capsys.readouterr().out
    (written,) = read_editions([tmp_path])
    got = {str(chat.chat_id): (texts(chat), labels) for chat, labels in zip(written.chats, written.labels, strict=True)}
    assert got == {
        str(chat.chat_id): (texts(chat), labels) for chat, labels in zip(edition.chats, edition.labels, strict=True)
    }


def test_it_measures_what_streaming_the_same_chats_measures(
    trained: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def figures(*arguments: str) -> list[str]:
        assert main(["evaluate", str(trained), "--include-trained", *arguments]) == 0
        return [
            line.partition(" (trained on 40 of 40 chats), ")[2]
            for line in capsys.readouterr().out.splitlines()
            if "streamed" in line
        ]

    from_store = figures("--dialogs", url, str(SAMPLE / "ytrain.csv"))
    assert from_store == figures(str(SAMPLE))
    assert len(from_store) == 5


def test_dialogs_that_the_model_was_trained_on_are_left_out(
    url: str, edition: Edition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [at for at in range(len(edition.chats)) if at % 4]
    first = Edition("first", "", [edition.chats[at] for at in known], [edition.labels[at] for at in known])
    write_artifact(tmp_path, fit(tabulate([first])).weights(), [first], [])
    assert main(["evaluate", str(tmp_path), "--dialogs", url, str(SAMPLE / "ytrain.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "left out: 30 of 40 chats of dialogs that were served, which the model was trained on"
    assert lines[-1].startswith("dialogs that were served, streamed, all messages: ROC AUC")
    assert lines[-1].endswith(", 20 answers")


def write_labels(file: Path, *rows: tuple[object, ...]) -> Path:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("dialog_id", "participant_index", "is_bot"), *rows])
    return file


def test_dialogs_that_are_gone_or_not_fully_labelled_are_left_out(url: str, edition: Edition, tmp_path: Path) -> None:
    mixed = next(at for at, labels in enumerate(edition.labels) if len(set(labels)) == 2)
    whole, half = edition.chats[mixed], edition.chats[mixed - 1]
    who = list(dict.fromkeys(message.participant_id for message in whole.messages))
    rows = [(whole.chat_id, one, label) for one, label in zip(who, edition.labels[mixed], strict=True)]
    served = read_served(
        url,
        write_labels(
            tmp_path / "labels.csv", *rows, (half.chat_id, half.messages[0].participant_id, 1), ("gone", 0, 1)
        ),
    )
    assert [texts(chat) for chat in served.chats] == [texts(whole)]
    assert served.labels == [edition.labels[mixed]]
    assert (served.missing, served.unlabelled) == (1, 1)


def test_labels_of_nothing_that_is_stored_are_an_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of 1 dialogs the store holds 0"):
        read_served(url, write_labels(tmp_path / "labels.csv", ("gone", 0, 1)))


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("sqlite:////no/such/file.sqlite", "the store cannot be read: OperationalError"),
        ("postgresql://user:very-secret@127.0.0.1:1/database", "the store cannot be read: "),
        ("mysql://user:very-secret@host/database", "has to begin with postgresql:// or sqlite:///"),
    ],
)
def test_a_store_that_cannot_be_read_exits_with_1_and_shows_no_password(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, error: str
) -> None:
    labels = write_labels(tmp_path / "labels.csv", ("d", 0, 1))
    assert main(["evaluate", str(trained), "--dialogs", url, str(labels)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert error in line
    assert "secret" not in line


def test_a_store_is_only_read(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.csv", ("d", 0, 1))
    with pytest.raises(DataError, match="unable to open database file"):
        read_served(f"sqlite:///{tmp_path / 'dialogs.sqlite'}", labels)
    assert list(tmp_path.iterdir()) == [labels]


def test_evaluate_without_anything_to_measure_is_an_error(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained)]) == 1
    assert "needs folders of data or --dialogs" in capsys.readouterr().err
