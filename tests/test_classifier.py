import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.chat import Chat
from models.classifier import Classifier, log_odds, to_probability
from models.features import read_sides
from models.signals import LINEAR, SIGNALS
from models.weights import ARTIFACT, FORMAT, METRICS, SHIPPED, ModelError
from tests.conftest import make_chat, sample_bodies
from train.copies import so_far


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


def test_no_chats_are_answered_with_nothing(classifier: Classifier) -> None:
    assert classifier.predict([]) == []


def finished(chat: Chat) -> Chat:
    return chat.model_copy(update={"finished": True})


def test_a_mixture_of_finished_and_unfinished_chats_is_answered_in_order(classifier: Classifier) -> None:
    chats = [Chat.model_validate(body) for body in sample_bodies()]
    mixed = [so_far(chat, 3) if at % 2 else finished(chat) for at, chat in enumerate(chats)]
    together = [[side.is_bot_probability for side in answer.participants] for answer in classifier.predict(mixed)]
    assert together == [pytest.approx(probabilities(classifier, chat), abs=1e-12) for chat in mixed]


def test_a_finished_chat_is_not_scored_as_one_that_may_go_on(classifier: Classifier) -> None:
    chat = Chat.model_validate(sample_bodies()[0])
    assert probabilities(classifier, finished(chat)) != pytest.approx(probabilities(classifier, chat), abs=0.001)
    assert probabilities(classifier, so_far(chat, len(chat.messages))) == probabilities(classifier, chat)


def test_an_assessment_has_a_row_for_each_participant(classifier: Classifier) -> None:
    chats = [make_chat((0, "one two"), (1, "three")), make_chat((0, "a"), (1, "b"), (2, "c"))]
    assessment = classifier.assess(chats)
    assert [len(sides) for sides in assessment.sides] == [2, 3]
    assert assessment.signals.shape == (5, len(SIGNALS))
    for column in (assessment.score, assessment.probabilities, assessment.certainties):
        assert column.shape == (5,)
    answers = [side.is_bot_probability for answer in classifier.predict(chats) for side in answer.participants]
    assert assessment.probabilities.tolist() == answers


def test_a_smaller_expected_share_of_bots_shifts_the_log_odds(classifier: Classifier) -> None:
    """Saerens et al. 2002: the odds change by the ratio of the odds of both shares, in every answer."""
    chats = [Chat.model_validate(body) for body in sample_bodies()]
    base = classifier.weights.base
    usual, few = (classifier.assess(chats, share).probabilities for share in (None, 0.02))
    assert log_odds(few) - log_odds(usual) == pytest.approx(log_odds(0.02) - log_odds(base))
    configured = Classifier(classifier.weights, classifier.version, expected_bot_share=0.02)
    assert np.array_equal(configured.assess(chats).probabilities, few)


def test_confidence_never_exceeds_what_the_own_score_says(classifier: Classifier) -> None:
    """Of two bots that talk to each other, one lowers the other's probability; that makes nobody surely a person."""
    chats = [Chat.model_validate(body) for body in sample_bodies()]
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
    classifier.predict([make_chat((0, " ".join(f"w{number}" for number in range(200_000))))])
    classifier.predict([make_chat((0, " ".join(f"{number}{'x' * 5_000}" for number in range(1_000))))])
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
    signals = [classifier.assess([make_chat((0, f"{'x' * 40}{end}"))]).signals[0] for end in ("", "!!!", "y" * 400)]
    said = [SIGNALS.index(name) for name in LINEAR]
    assert signals[0][said].tolist() == signals[1][said].tolist() == signals[2][said].tolist()


def test_signals_have_names(classifier: Classifier) -> None:
    signals = classifier.assess([make_chat((0, "one"), (1, "two"))]).signals
    assert signals.shape == (2, len(SIGNALS))
    half = len(SIGNALS) // 2
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


@pytest.mark.parametrize("form", [FORMAT - 1, FORMAT + 1])
def test_another_format_is_refused(folder: Path, form: int) -> None:
    change(folder, format=form)
    with pytest.raises(ModelError, match=f"has format {form}, this version reads {FORMAT}; train it again") as error:
        Classifier.load(folder)
    assert "\n" not in str(error.value)


def test_another_library_version_is_refused(folder: Path) -> None:
    change(folder, numpy="1.26.4")
    with pytest.raises(ModelError, match=f"numpy 1.26.4, this is {np.__version__}"):
        Classifier.load(folder)


@pytest.mark.parametrize("what", ["no archive", "an array less", "a shorter array", "an object"])
def test_what_is_no_artifact_is_refused_whatever_its_checksum(folder: Path, what: str) -> None:
    with np.load(folder / ARTIFACT) as stored:
        arrays = dict(stored)
    if what == "an array less":
        del arrays["boosted.leaves"]
    elif what == "a shorter array":
        arrays["ngrams"] = arrays["ngrams"][:, :-1]
    elif what == "an object":
        arrays["base"] = np.array({"run": "this"}, dtype=object)
    if what == "no archive":
        (folder / ARTIFACT).write_bytes(b"PK not at all")
    else:
        np.savez(folder / ARTIFACT, **arrays)
    change(folder, sha256=hashlib.sha256((folder / ARTIFACT).read_bytes()).hexdigest())
    with pytest.raises(ModelError, match="not an artifact of format"):
        Classifier.load(folder)


def test_the_artifact_is_small() -> None:
    assert (SHIPPED / ARTIFACT).stat().st_size < 4_000_000


def test_classifiers_of_several_threads_share_all_but_their_caches() -> None:
    classifier = Classifier.load()
    other = classifier.for_another_thread()
    chats = [Chat.model_validate(body) for body in sample_bodies()]
    assert other.ngrams.weights is classifier.ngrams.weights
    assert other._forest is classifier._forest
    for name in ("_rows", "_values", "_hashes"):
        assert getattr(other.ngrams, name) is not getattr(classifier.ngrams, name)
    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(lambda scorer: [scorer.predict(chats) for _ in range(5)], (classifier, other))
    assert one == two
