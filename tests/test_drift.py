"""Drift: what is compared, when it is flagged, and the commands around it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from models.chat import Chat
from models.classifier import Classifier
from models.weights import METRICS, SHIPPED
from models.words import words_for
from serving.scoring.monitoring import Monitoring
from tests.conftest import SAMPLE, make_chat
from train.__main__ import main
from train.artifact import write_artifact
from train.copies import excerpt
from train.data import DataError, read_editions, write_edition
from train.drift import compare, compare_log, index_of, read_log, summary
from train.fit import fit, tabulate
from train.reference import (
    AFTER,
    CHATS,
    DIALOGS,
    FINISHED,
    KINDS,
    REFERENCE,
    VALUES,
    Distribution,
    Reference,
    Sample,
    one_hot,
)

CHATS_OF = 110  # in the training data


def draw(chats: int, seed: int, moved: float = 0.0) -> Sample:
    """Return chats of two: normal values between 0 and 1, shared in part by both sides; one may have moved."""
    random = np.random.default_rng(seed)
    values = random.normal(0.5, 0.1, (2 * chats, len(VALUES))) + random.normal(0, 0.1, (chats, 1)).repeat(2, axis=0)
    values[:, 3] += moved
    return Sample(np.arange(chats).repeat(2), np.clip(values, 0, 1), one_hot(["low"] * 2 * chats))


def test_the_index_is_that_of_its_definition() -> None:
    counts, shares = np.array([[2000.0, 3000, 5000]]), np.array([[0.5, 0.3, 0.2]])
    expected = sum((p - q) * np.log(p / q) for p, q in ((0.2, 0.5), (0.3, 0.3), (0.5, 0.2)))
    assert index_of(counts, shares)[0] == pytest.approx([expected], rel=1e-3)


def test_chats_of_the_same_distribution_are_left_in_peace_and_a_value_that_has_moved_is_named() -> None:
    normal = Distribution.of(draw(1000, 1))
    same = [compare(CHATS, draw(200, seed), normal) for seed in range(2, 6)]
    assert [outcome.drifted() for outcome in same] == [[]] * 4
    assert np.mean([outcome.index.mean() for outcome in same]) < 0.02, "corrected for its bias in few chats"
    moved = compare(CHATS, draw(200, 2, moved=0.15), normal)
    assert moved.drifted() == [VALUES[3]]
    assert moved.low[3] < moved.index[3] < moved.high[3]


def test_the_interval_is_wider_where_the_participants_of_a_chat_say_the_same() -> None:
    normal = Distribution.of(draw(1000, 1))
    traffic = draw(300, 2)
    alone = Sample(np.arange(300), traffic.values[::2], traffic.confidences[::2])
    twice = Sample(np.arange(300).repeat(2), alone.values.repeat(2, axis=0), traffic.confidences)
    a, b = compare(CHATS, alone, normal), compare(CHATS, twice, normal)
    assert np.median(b.high - b.low) == pytest.approx(np.median(a.high - a.low), rel=0.2)


def test_shares_of_confidence() -> None:
    sample = replace(draw(200, 1), confidences=one_hot(["high"] * 100 + ["medium"] * 100 + ["low"] * 200))
    outcome = compare(CHATS, sample, Distribution.of(sample))
    assert outcome.confidences[:, 0] == pytest.approx([0.25, 0.25, 0.5]) == outcome.normal.confidences
    assert (outcome.confidences[:, 1] < outcome.confidences[:, 0]).all()
    assert (outcome.confidences[:, 0] < outcome.confidences[:, 2]).all()


def invent(chats: int, seed: int, change: Callable[[str], str] = str) -> list[Chat]:
    """Return chats of messages that were said in the sample."""
    random = Random(seed)  # noqa: S311  # nothing secret
    said = [message.text for chat in read_editions([SAMPLE])[0].chats for message in chat.messages]
    return [
        make_chat(*((side, change(random.choice(said))) for side in (0, 1) * random.randint(1, 5)))
        for _ in range(chats)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model of invented chats, and its reference."""
    folder, data = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("data")
    chats = [
        Chat.model_construct(chat_id=str(at), messages=chat.messages) for at, chat in enumerate(invent(CHATS_OF, 1))
    ]
    write_edition(data, chats, [[at % 2, (at + 1) % 2] for at in range(len(chats))])
    editions = read_editions([data])
    write_artifact(folder, fit(tabulate(editions)).weights(), editions, [])
    assert main(["reference", str(folder), str(data), "--quiet"]) == 0
    return folder


def write_log(folder: Path, classifier: Classifier, chats: list[Chat], *, are_dialogs: bool = False) -> None:
    log = Monitoring(folder, 10**8, workers=1)
    log.record(classifier, chats, [are_dialogs] * len(chats), classifier.assess(chats))
    log.close()


def test_the_reference_holds_every_chat_and_dialog_and_no_text(trained: Path) -> None:
    reference = Reference.load(trained, Classifier.load(trained).version)
    assert int(reference.of_kind[CHATS].chats) == int(reference.of_kind[FINISHED].chats) == CHATS_OF
    long = [chat for chat in invent(CHATS_OF, 1) if len(chat.messages) >= AFTER]
    assert int(reference.of_kind[DIALOGS].chats) == len(long)
    for kind in KINDS:
        assert reference.of_kind[kind].shares.sum(axis=1) == pytest.approx(1)
    with np.load(trained / REFERENCE, allow_pickle=False) as arrays:
        assert {name for name in arrays.files if arrays[name].dtype.kind not in "fi"} == {"version"}
    assert (trained / REFERENCE).stat().st_size < 50_000


def test_a_reference_of_another_model_is_rejected(trained: Path) -> None:
    with pytest.raises(DataError, match=r"belongs to model .*, not to other; `python -m train reference` makes it"):
        Reference.load(trained, "other")
    with pytest.raises(DataError, match=r"No such file or directory; `python -m train reference`"):
        Reference.load(trained / "none", "other")


@pytest.fixture
def drift(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that logs chats and runs the command; it returns its exit code, output and report."""

    def log_and_compare(chats: list[Chat], expected_bot_share: float | None = None) -> tuple[int, str, str]:
        write_log(tmp_path / "log", Classifier.load(trained, expected_bot_share), chats)
        out = tmp_path / "report.html"
        code = main(["drift", str(tmp_path / "log"), "--model", str(trained), "--out", str(out)])
        return code, capsys.readouterr().out, out.read_text()

    return log_and_compare


def test_traffic_of_the_game_exits_with_0_whatever_share_of_bots_is_expected(
    drift: Callable[..., tuple[int, str, str]],
) -> None:
    code, printed, page = drift(invent(120, 2), expected_bot_share=0.02)
    assert (code, "chats: 120, no drift") == (0, printed.splitlines()[0])
    for kind in (FINISHED, DIALOGS):
        assert f"{kind}: 0, too few to compare (at least 100)" in printed
    assert page.count("<svg") == 2
    assert "<h1>No drift: this traffic looks like the training data.</h1>" in page
    assert not re.findall(r"http://(?!www\.w3\.org|purl\.org|creativecommons\.org)", page)


def test_traffic_that_has_changed_exits_with_3_and_names_what(drift: Callable[..., tuple[int, str, str]]) -> None:
    code, printed, page = drift(invent(120, 2, lambda text: f"{text.upper()} 12345"))
    assert code == 3
    assert "chats: 120, DRIFTED" in printed
    assert all(f"{words_for(name).en} " in printed for name in ("capitals", "digits"))
    (title,) = re.findall("<h1>(.*)</h1>", page)
    named = re.findall("“(.*?)”", title)
    assert title.startswith("Drift: this traffic differs from the training data, most of all in “")
    assert len(named) == 3
    assert all(f"{words} " in printed for words in named)


def test_finished_chats_are_compared_with_finished_chats(trained: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(trained)
    finished = [chat.model_copy(update={"finished": True}) for chat in invent(120, 2)]
    write_log(tmp_path, classifier, finished)
    log = read_log([tmp_path], classifier.version)
    reference = Reference.load(trained, classifier.version)
    (outcome,) = compare_log(log, reference)
    assert (outcome.kind, outcome.chats, outcome.drifted()) == (FINISHED, 120, [])
    other = compare(CHATS, log.samples[FINISHED], reference.of_kind[CHATS])
    assert "has the last word" in other.drifted()


def test_dialogs_are_compared_at_one_moment_and_lines_that_cannot_be_compared_are_counted(
    trained: Path, tmp_path: Path
) -> None:
    classifier = Classifier.load(trained)
    dialog = next(chat for chat in invent(10, 2) if len(chat.messages) > AFTER)
    moments = [excerpt(dialog, end=number) for number in range(1, len(dialog.messages) + 1)]
    write_log(tmp_path, classifier, moments, are_dialogs=True)
    write_log(tmp_path, classifier, invent(5, 2))
    (file,) = tmp_path.glob("*.jsonl")
    last = json.loads(file.read_text().splitlines()[-1])
    with file.open("a") as lines:
        lines.write(f"{json.dumps(last | {'model': 'other'})}\n")
        lines.write(f"{json.dumps(last)[:50]}\n[]\n")
        lines.write(f"{json.dumps(last | {'participants': [{'probability': 0.5, 'signals': [1]}]})}\n")
        lines.write('{"time": "2026-01-01T00:00Z", "lost": 17}\n')
    log = read_log([file], classifier.version)
    assert {kind: len(sample.chats()) for kind, sample in log.samples.items()} == {CHATS: 5, FINISHED: 0, DIALOGS: 1}
    other_moments = "of a dialog with more or less than 4 messages"
    assert log.skipped == {other_moments: len(moments) - 1, "of another model": 1, "that cannot be read": 3}
    assert "the log says that 17 lines were lost" in summary(log, [])


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, "No such file"), ('{"model": "x"}\n', "no line to compare for model")],
)
def test_an_unusable_log_exits_with_1_in_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, error: str
) -> None:
    if content is not None:
        (tmp_path / "log").write_text(content)
    assert main(["drift", str(tmp_path / "log"), "--model", str(trained)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert error in line


def test_the_shipped_reference_belongs_to_the_shipped_model() -> None:
    version = json.loads((SHIPPED / METRICS).read_text())["version"]
    assert int(Reference.load(SHIPPED, version).of_kind[CHATS].chats) > 1_000
