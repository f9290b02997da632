import hashlib
import json
import runpy
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models import signals
from models.chat import Chat
from models.classifier import Classifier, log_odds, to_probability
from models.features import read_sides
from models.signals import LINEAR, SIGNALS
from models.weights import ARTIFACT, METRICS, SHIPPED, ModelError
from tests.conftest import make_chat, sample_bodies
from train.copies import excerpt


def probabilities(classifier: Classifier, chat: Chat) -> list[float]:
    (prediction,) = classifier.predict([chat])
    return [side.is_bot_probability for side in prediction.participants]


def sample_chats() -> list[Chat]:
    return [Chat.model_validate(body) for body in sample_bodies()]


def finished(chat: Chat) -> Chat:
    return chat.model_copy(update={"finished": True})


def test_a_batch_of_finished_and_unfinished_chats_gives_what_each_chat_gives_alone(classifier: Classifier) -> None:
    mixed = [excerpt(chat, end=3) if at % 2 else finished(chat) for at, chat in enumerate(sample_chats())]
    for chat, prediction in zip(mixed, classifier.predict(mixed), strict=True):
        assert prediction.chat_id == chat.chat_id
        together = [side.is_bot_probability for side in prediction.participants]
        assert together == pytest.approx(probabilities(classifier, chat), abs=1e-12)
    assert classifier.predict([]) == []


def test_a_finished_chat_is_not_scored_as_one_that_may_go_on(classifier: Classifier) -> None:
    chat = sample_chats()[0]
    assert probabilities(classifier, finished(chat)) != pytest.approx(probabilities(classifier, chat), abs=0.001)
    assert probabilities(classifier, excerpt(chat)) == probabilities(classifier, chat)


def test_it_tells_a_bot_from_a_person(classifier: Classifier) -> None:
    polite = make_chat(
        (0, "прив"),
        (1, "Привет! Рад тебя слышать. Чем занимаешься сегодня?"),
        (0, "да ничем"),
        (1, "Понимаю, иногда отдых дома — это лучшее решение. Смотришь что-нибудь интересное?"),
    )
    person, bot = probabilities(classifier, polite)
    assert person < 0.3
    assert bot > 0.7


@pytest.mark.parametrize(
    "turns",
    [
        [(0, "")],
        [(0, "hi")],
        [(0, ""), (1, "")],
        [(0, "a"), (1, "b"), (2, "c"), (0, "d")],
        [(n % 2, "") for n in range(2000)],
        [(n % 2, f"message {n}") for n in range(2000)],
        [(0, "x" * 100_000), (1, "\ud83d")],
        [(0, " ".join(f"word{n}" for n in range(40_000)))],
    ],
    ids=["empty", "alone", "both empty", "three", "2000 empty", "2000 messages", "a long word", "40,000 words"],
)
def test_any_chat_is_scored(classifier: Classifier, turns: list[tuple[int, str]]) -> None:
    values = probabilities(classifier, make_chat(*turns))
    assert len(values) == len({who for who, _ in turns})
    assert all(0 < value < 1 for value in values)


def test_an_assessment_has_a_row_of_named_signals_for_each_participant(classifier: Classifier) -> None:
    chats = [make_chat((0, "one two"), (1, "three")), make_chat((0, "a"), (1, "b"), (2, "c"))]
    assessment = classifier.assess(chats)
    assert [len(sides) for sides in assessment.sides] == [2, 3]
    assert assessment.signals.shape == (5, len(SIGNALS))
    own, others = np.split(assessment.signals[:2], 2, axis=1)
    assert own == pytest.approx(others[::-1])
    for column in (assessment.score, assessment.probabilities, assessment.certainties):
        assert column.shape == (5,)
    answers = [side.is_bot_probability for answer in classifier.predict(chats) for side in answer.participants]
    assert assessment.probabilities.tolist() == answers


def test_a_smaller_expected_share_of_bots_shifts_the_log_odds(classifier: Classifier) -> None:
    """Saerens et al. 2002: the odds change by the ratio of the odds of both shares, in every answer."""
    chats = sample_chats()
    base = classifier.weights.base
    usual, few = (classifier.assess(chats, share).probabilities for share in (None, 0.02))
    assert log_odds(few) - log_odds(usual) == pytest.approx(log_odds(0.02) - log_odds(base))
    configured = Classifier(classifier.weights, classifier.version, expected_bot_share=0.02)
    assert np.array_equal(configured.assess(chats).probabilities, few)


def test_confidence_never_exceeds_what_the_own_score_says(classifier: Classifier) -> None:
    """Of two bots that talk to each other, one lowers the other's probability; that makes nobody surely a person."""
    chats = sample_chats()
    bots = [message.text for chat in chats for message in chat.messages[:3]]
    talks = [
        make_chat(*((at % 2, text) for at, text in enumerate(bots[start : start + 8]))) for start in range(0, 96, 4)
    ]
    assessment = classifier.assess([*chats, *talks])
    alone = to_probability(assessment.score)
    is_bot = assessment.probabilities > 0.5
    limit = np.where(is_bot, alone, 1 - alone)
    assert (assessment.certainties <= limit + 1e-12).all()
    assert (assessment.certainties < np.where(is_bot, assessment.probabilities, 1 - assessment.probabilities)).any()


@pytest.mark.service
def test_memory_stays_bounded_whatever_a_chat_holds() -> None:
    classifier = Classifier.load()
    chat = make_chat((0, "hello there"), (1, "who are you"))
    before = probabilities(classifier, chat)
    size = classifier.ngrams._values.nbytes
    classifier.predict([make_chat((0, " ".join(f"w{number}" for number in range(70_000))))])
    classifier.predict([make_chat((0, " ".join(f"{number}{'x' * 5_000}" for number in range(200))))])
    assert classifier.ngrams._values.nbytes == size < 8_000_000
    assert len(classifier.ngrams._rows) <= len(classifier.ngrams._values)
    assert max(map(len, classifier.ngrams._rows)) <= 40
    assert probabilities(classifier, chat) == before


@pytest.mark.service
def test_a_long_chat_is_summed_like_its_parts() -> None:
    """The words are looked up in chunks; the sums do not depend on where a chunk ends."""
    classifier = Classifier.load()
    texts = [" ".join(f"w{number}" for number in range(start, start + 5_000)) for start in range(0, 40_000, 5_000)]
    sums = classifier.ngrams.sums(read_sides(make_chat(*enumerate(texts))))
    alone = [classifier.ngrams.sums(read_sides(make_chat((0, text))))[0] for text in texts]
    assert np.allclose(sums, alone, rtol=0, atol=1e-9)


def test_a_long_word_counts_by_its_beginning(classifier: Classifier) -> None:
    said = [SIGNALS.index(name) for name in LINEAR]
    chats = [make_chat((0, f"{'x' * 40}{end}")) for end in ("", "!!!", "y" * 400)]
    assert len({tuple(classifier.assess([chat]).signals[0, said]) for chat in chats}) == 1


def change(folder: Path, **artifact: object) -> None:
    metrics = json.loads((folder / METRICS).read_text())
    metrics["artifact"].update(artifact)
    (folder / METRICS).write_text(json.dumps(metrics))


def damage(folder: Path) -> None:
    content = bytearray((folder / ARTIFACT).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / ARTIFACT).write_bytes(content)


def store(folder: Path, content: bytes | None = None, **arrays: object) -> None:
    """Write an artifact that has the right checksum; an array that is None is left out."""
    with np.load(folder / ARTIFACT) as stored:
        kept = {name: value for name, value in {**stored, **arrays}.items() if value is not None}
    if content is None:
        np.savez(folder / ARTIFACT, **kept)
    else:
        (folder / ARTIFACT).write_bytes(content)
    change(folder, sha256=hashlib.sha256((folder / ARTIFACT).read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (damage, rf"{ARTIFACT}: the checksum differs from that in {METRICS}"),
        (lambda folder: (folder / ARTIFACT).unlink(), f"{ARTIFACT}: No such file"),
        *((lambda folder, text=text: (folder / METRICS).write_text(text), METRICS) for text in ("", "[]", "{}")),
        (lambda folder: (folder / METRICS).write_text('{"artifact": 3}'), METRICS),
        (lambda folder: change(folder, format=6), "has format 6, this version reads 8-.*; train it again"),
        (lambda folder: change(folder, numpy="1.26.4"), f"numpy 1.26.4, this is {np.__version__}"),
        (lambda folder: store(folder, content=b"PK not at all"), "not an artifact of format"),
        (lambda folder: store(folder, **{"boosted.leaves": None}), "not an artifact of format"),
        (lambda folder: store(folder, typical=np.zeros(3)), "not an artifact of format"),
        (lambda folder: store(folder, base=np.array({"run": "this"}, object)), "not an artifact of format"),
    ],
)
def test_what_is_no_artifact_of_this_version_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], error: str
) -> None:
    for name in (ARTIFACT, METRICS):
        shutil.copy(SHIPPED / name, tmp_path)
    assert Classifier.load(tmp_path).version == Classifier.load().version
    spoil(tmp_path)
    with pytest.raises(ModelError, match=f"^[^\n]*{error}[^\n]*$"):
        Classifier.load(tmp_path)


@pytest.mark.filterwarnings("ignore:'models.weights' found in sys.modules:RuntimeWarning")
def test_an_artifact_of_as_many_other_signals_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "SIGNALS", ("another", *SIGNALS[1:]))
    weights = runpy.run_module("models.weights")
    with pytest.raises(weights["ModelError"], match=r"the artifact has format 8-.*, this version reads 8-"):
        weights["read_artifact"](SHIPPED)


def test_the_artifact_is_small() -> None:
    assert (SHIPPED / ARTIFACT).stat().st_size < 4_000_000


def test_classifiers_of_several_threads_share_all_but_their_caches() -> None:
    classifier = Classifier.load()
    other = classifier.for_another_thread()
    assert other.ngrams.weights is classifier.ngrams.weights
    assert other._forest is classifier._forest
    for name in ("_rows", "_values", "_hashes"):
        assert getattr(other.ngrams, name) is not getattr(classifier.ngrams, name)
    chats = sample_chats()
    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(lambda scorer: [scorer.predict(chats) for _ in range(5)], (classifier, other))
    assert one == two
