import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.chat import Chat
from models.classifier import ARTIFACT, FORMAT, METRICS, SHIPPED, SIGNALS, Classifier, ModelError
from models.features import STYLE, read_sides
from tests.conftest import make_chat, sample_bodies


def probabilities(classifier: Classifier, chat: Chat) -> list[float]:
    (prediction,) = classifier.predict([chat])
    return [side.is_bot_probability for side in prediction.participants]


def test_a_batch_gives_what_each_chat_gives_alone(classifier: Classifier) -> None:
    chats = [Chat.model_validate(body) for body in sample_bodies()]
    together = classifier.predict(chats)
    for chat, prediction in zip(chats, together, strict=True):
        assert prediction.chat_id == chat.chat_id
        assert [side.is_bot_probability for side in prediction.participants] == pytest.approx(
            probabilities(classifier, chat), abs=1e-12
        )


def test_it_tells_the_samples_bots_from_its_people(classifier: Classifier) -> None:
    polite = make_chat(
        (0, "прив"),
        (1, "Привет! Рад тебя слышать. Чем занимаешься сегодня?"),
        (0, "да ничем"),
        (1, "Понимаю, иногда отдых дома — это лучшее решение. Смотришь что-нибудь интересное?"),
    )
    person, bot = probabilities(classifier, polite)
    assert person < 0.3
    assert bot > 0.7


def test_names_of_participants_and_messages_do_not_matter(classifier: Classifier) -> None:
    turns = [(0, "hey"), (1, "Hello! How are you?"), (0, "fine")]
    renamed = [("z" if who == 0 else 5, text) for who, text in turns]
    assert probabilities(classifier, make_chat(*turns)) == probabilities(classifier, make_chat(*renamed))


@pytest.mark.parametrize(
    "turns",
    [
        [(0, "")],
        [(0, "hi")],
        [(0, ""), (1, "")],
        [(0, "a"), (1, "b"), (2, "c"), (0, "d")],
        [(n % 2, f"message {n}") for n in range(2000)],
        [(0, "x" * 100_000), (1, "\ud83d")],
        [(0, " ".join(f"word{n}" for n in range(40_000)))],
    ],
    ids=["empty", "alone", "both empty", "three", "2000 messages", "long word, lone surrogate", "40,000 words"],
)
def test_any_chat_is_scored(classifier: Classifier, turns: list[tuple[int, str]]) -> None:
    values = probabilities(classifier, make_chat(*turns))
    assert len(values) == len({who for who, _ in turns})
    assert all(0 < value < 1 for value in values)


def test_the_token_cache_may_overflow(classifier: Classifier) -> None:
    chat = make_chat((0, "hello there"), (1, "who are you"))
    before = probabilities(classifier, chat)
    for start in range(0, 60_000, 2_000):
        classifier.predict([make_chat((0, " ".join(f"w{start + n}" for n in range(2_000))))])
    assert probabilities(classifier, chat) == before


def test_signals_have_names(classifier: Classifier) -> None:
    signals, _ = classifier.signals(read_sides(make_chat((0, "one"), (1, "two"))), np.array([2]))
    assert signals.shape == (2, len(SIGNALS))
    half = len(SIGNALS) // 2
    assert len(STYLE) + 2 == half
    assert signals[0, :half] == pytest.approx(signals[1, half:])
    assert signals[0, half:] == pytest.approx(signals[1, :half])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (ARTIFACT, METRICS):
        shutil.copy(SHIPPED / name, tmp_path)
    return tmp_path


def change(folder: Path, **artifact: object) -> None:
    metrics = json.loads((folder / METRICS).read_text())
    metrics["artifact"].update(artifact)
    (folder / METRICS).write_text(json.dumps(metrics))


def test_it_loads_from_another_folder(folder: Path) -> None:
    assert Classifier.load(folder).version == Classifier.load().version


def test_a_damaged_artifact_is_refused(folder: Path) -> None:
    content = bytearray((folder / ARTIFACT).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / ARTIFACT).write_bytes(content)
    with pytest.raises(ModelError, match="checksum"):
        Classifier.load(folder)


def test_a_missing_artifact_is_named(folder: Path) -> None:
    (folder / ARTIFACT).unlink()
    with pytest.raises(ModelError, match=f"{ARTIFACT}: No such file"):
        Classifier.load(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"artifact": 3}'])
def test_broken_metrics_are_refused(folder: Path, content: str) -> None:
    (folder / METRICS).write_text(content)
    with pytest.raises(ModelError, match=METRICS):
        Classifier.load(folder)


def test_another_format_is_refused(folder: Path) -> None:
    change(folder, format=FORMAT + 1)
    with pytest.raises(ModelError, match="format"):
        Classifier.load(folder)


def test_another_library_version_is_refused(folder: Path) -> None:
    change(folder, numpy="1.26.4")
    with pytest.raises(ModelError, match=f"numpy 1.26.4, this is {np.__version__}"):
        Classifier.load(folder)


@pytest.mark.parametrize("what", ["no archive", "an array less", "a shorter array", "an object"])
def test_what_is_no_artifact_is_refused_whatever_its_checksum(folder: Path, what: str) -> None:
    with np.load(folder / ARTIFACT) as stored:
        arrays = dict(stored)
    if what == "an array less":
        del arrays["idf"]
    elif what == "a shorter array":
        arrays["own"] = arrays["own"][:-1]
    elif what == "an object":
        arrays["base"] = np.array({"run": "this"}, dtype=object)
    if what == "no archive":
        (folder / ARTIFACT).write_bytes(b"PK not at all")
    else:
        np.savez(folder / ARTIFACT, **arrays)
    change(folder, sha256=hashlib.sha256((folder / ARTIFACT).read_bytes()).hexdigest())
    with pytest.raises(ModelError, match="no artifact of format"):
        Classifier.load(folder)


def test_the_artifact_is_small() -> None:
    assert (SHIPPED / ARTIFACT).stat().st_size < 5_000_000
