import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.chat import RunningDialog
from models.classifier import Classifier
from models.weights import ARTIFACT, METRICS, SHIPPED
from tests.conftest import ROOT, SAMPLE, make_chat, sample_bodies
from train import evaluate as evaluation
from train.__main__ import main
from train.card import AIMS, misses, reliability, unreliable
from train.copies import last_answers, so_far
from train.data import CHATS, Edition, read_editions
from train.evaluate import (
    AFTER,
    COMPLETE_CHATS,
    SHIFT_SEEDS,
    SHIFTED_CHATS,
    calibration_error,
    cross_fit,
    evaluate_together,
    measure,
    measure_on,
    plan,
    streamed,
    together,
)
from train.fit import COMPLETE, RUNNING, RUNNING_LATE, SEED, Fitted, Table, copies, fit, folds, tabulate
from train.report import REPORT


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert main([str(SAMPLE), "--out", str(folder), "--quiet"]) == 0
    return folder


def test_the_command_writes_artifact_metrics_and_card(trained: Path) -> None:
    metrics = json.loads((trained / METRICS).read_text())
    card = (trained / "README.md").read_text()
    assert Classifier.load(trained).version == metrics["version"]
    assert metrics["trained_on"][0]["chats"] == 40
    assert {row["how"] for row in metrics["measured"]} == {COMPLETE_CHATS, SHIFTED_CHATS, *map(streamed, AFTER)}
    for row in metrics["measured"]:
        assert f"| {row['on']} | {row['how']} | {row['roc_auc']:.4f} | {row['log_loss']:.4f} |" in card


def test_no_path_of_the_data_is_written(trained: Path) -> None:
    for file in (METRICS, "README.md", REPORT):
        assert str(SAMPLE) not in (trained / file).read_text()


def test_the_same_data_gives_the_same_artifact(trained: Path, tmp_path: Path) -> None:
    assert main([str(SAMPLE), "--out", str(tmp_path), "--quiet"]) == 0
    assert (trained / ARTIFACT).read_bytes() == (tmp_path / ARTIFACT).read_bytes()


def test_without_arguments_the_shipped_model_stays(tmp_path: Path) -> None:
    before = (SHIPPED / ARTIFACT).read_bytes()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "train"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "trained" / ARTIFACT).exists()
    assert (SHIPPED / ARTIFACT).read_bytes() == before


def halves(edition: Edition) -> tuple[Edition, Edition]:
    """Return two data sets of half of the chats each."""
    return (
        Edition("first half", "", edition.chats[::2], edition.labels[::2]),
        Edition("second half", "", edition.chats[1::2], edition.labels[1::2]),
    )


def test_arrays_give_what_scikit_learn_gives() -> None:
    """The rows cover all three situations and a game besides the home game; the artifact holds 32-bit floats."""
    home, elsewhere = halves(read_editions([SAMPLE])[0])
    table = tabulate([home], [elsewhere])
    fitted = fit(table)
    chats = [*home.chats, *elsewhere.chats]
    running = [so_far(chat, messages) for chat in home.chats for messages in sorted({1, 2, 3, len(chat.messages)})]
    classifier = Classifier(fitted.weights(), "test")
    got = [side.is_bot_probability for answer in classifier.predict(chats) for side in answer.participants]
    assert got == pytest.approx(fitted.predict(table.take(table.kind == COMPLETE)).tolist(), abs=1e-6)
    every = fitted.predict(table)
    for chat, answer in zip(running, classifier.predict(running), strict=True):
        number = home.chats.index(next(c for c in home.chats if c.chat_id == chat.chat_id))
        rows = np.flatnonzero((table.chat == number) & (table.kind == RUNNING))
        groups = [rows[table.group[rows] == group] for group in np.unique(table.group[rows])]
        values = [side.is_bot_probability for side in answer.participants]
        assert any(len(of) == len(values) and np.allclose(every[of], values, rtol=0, atol=1e-6) for of in groups)


def test_chats_are_kept_together_with_their_copies() -> None:
    home, elsewhere = halves(read_editions([SAMPLE])[0])
    table = tabulate([home], [elsewhere])
    held_out = []
    for rest, part in folds(table, seed=1):
        assert not set(table.chat[rest]) & set(table.chat[part])
        held_out += part.tolist()
    assert sorted(held_out) == list(range(len(table.labels)))


def test_no_model_is_tested_on_a_chat_that_it_was_fitted_on() -> None:
    first, second = halves(read_editions([SAMPLE])[0])
    table = tabulate([first], [second])
    tested = []
    for on, fitted_on, tested_on in plan([first], [second], table):
        assert not set(fitted_on) & set(tested_on)
        assert on.startswith(first.name if set(tested_on) <= set(range(len(first.chats))) else second.name)
        tested += tested_on.tolist()
    assert sorted(tested) == list(range(len(first.chats) + len(second.chats)))


def test_every_chat_is_measured_once_by_a_model_that_was_not_fitted_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    home = halves(read_editions([SAMPLE])[0])
    chats, labels = [*home[0].chats, *home[1].chats], [*home[0].labels, *home[1].labels]
    fitted_on: list[set[int]] = []

    def recorded(table: Table, step: Callable[[], object]) -> Fitted:
        fitted_on.append(set(table.chat.tolist()))
        return fit(table, step)

    monkeypatch.setattr(evaluation, "fit", recorded)
    models = cross_fit(tabulate(home))
    expected: list[tuple[bool, float, int]] = []
    for (classifier, tested), seen in zip(models, fitted_on, strict=True):
        assert not seen & set(tested.tolist())
        for at in tested:
            (answer,) = classifier.predict([chats[at]])
            probabilities = [side.is_bot_probability for side in answer.participants]
            expected += zip([at >= len(home[0].chats)] * 2, probabilities, labels[at], strict=True)
    assert len(expected) == 2 * len(chats)
    measured = [part for part in evaluate_together(home, models) if part.how == COMPLETE_CHATS]
    assert [part.on for part in measured] == [together(edition.name) for edition in home]
    got = [
        (bool(number), float(probability), int(label))
        for number, part in enumerate(measured)
        for probability, label in zip(part.probabilities, part.labels, strict=True)
    ]
    for (edition, probability, label), other in zip(sorted(got), sorted(expected), strict=True):
        assert (edition, label) == (other[0], other[2])
        assert probability == pytest.approx(other[1], abs=1e-9)


def test_dialogs_that_are_joined_late_lack_their_first_message() -> None:
    chat = make_chat(*((at % 2, f"message {at}") for at in range(6)))
    late = [copy for kind, copy in copies(chat, 0, {0: 0, 1: 1}, running=True) if kind == RUNNING_LATE]
    assert [len(copy.messages) for copy in late] == [3, 4, 5]
    assert all(copy.messages == chat.messages[1 : 1 + len(copy.messages)] for copy in late)
    assert all(isinstance(copy, RunningDialog) for copy in late)


def test_measuring_draws_other_copies_than_training() -> None:
    assert SEED not in SHIFT_SEEDS


def test_streamed_chats_are_asked_about_the_sender_at_its_last_message() -> None:
    """What is measured is what the platform gets: one answer for each participant who has spoken."""
    (edition,) = read_editions([SAMPLE])
    classifier = Classifier.load()
    measured = {part.how: part for part in measure(classifier, edition.name, edition.chats, edition.labels)}
    for after in AFTER:
        labels, probabilities = [], []
        for chat, of_chat in zip(edition.chats, edition.labels, strict=True):
            answers = {}
            for number, message in enumerate(chat.messages[:after], start=1):
                (answer,) = classifier.predict([so_far(chat, number)])
                said = {side.participant_id: side.is_bot_probability for side in answer.participants}
                answers[message.participant_id] = said[message.participant_id]
            who = list(last_answers(chat))
            labels += [of_chat[who.index(participant)] for participant in answers]
            probabilities += list(answers.values())
        part = measured[streamed(after)]
        assert part.labels.tolist() == labels
        assert part.probabilities.tolist() == pytest.approx(probabilities)


def habits(chats: int) -> Edition:
    """Return chats of one person and one bot, who say the same but punctuate differently."""
    draw = random.Random(1)  # noqa: S311  # nothing secret
    said = [message["text"] for body in sample_bodies() for message in body["messages"]]
    made, labels = [], []
    for _ in range(chats):
        bot = draw.randrange(2)
        texts = [(side, draw.choice(said).strip(".!?").lower()) for side in (0, 1) * 4]
        made.append(make_chat(*((side, f"{text}." if side == bot else text) for side, text in texts)))
        labels.append([int(side == bot) for side in (0, 1)])
    return Edition("habits", "", made, labels)


def test_it_can_learn() -> None:
    """The model tells two kinds of speakers apart that differ in one habit, on chats it has not seen."""
    table = tabulate([habits(120)])
    half, rest = table.take(table.chat < 60), table.take((table.chat >= 60) & (table.kind == COMPLETE))
    assert roc_auc_score(rest.labels, fit(half).predict(rest)) > 0.95


def test_others_words_are_the_other_ones_own() -> None:
    table = tabulate(read_editions([SAMPLE]))
    assert np.array_equal(table.own[0].toarray(), table.others[1].toarray())
    assert np.array_equal(table.own[1].toarray(), table.others[0].toarray())


def test_the_command_ends_with_1_for_data_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "train.json: no such file" in capsys.readouterr().err


SHIPPED_ROWS = json.loads((SHIPPED / METRICS).read_text())["measured"]
# The aims that the shipped model misses: what it reached instead, which a later model must not fall below.
MISSED: dict[tuple[str, str], tuple[float, float]] = {
    ("2025, 5-fold cross-validation", "shifted turn-taking"): (0.8993, 0.3726),
    ("2026, 5-fold cross-validation", "streamed, 2 messages"): (0.8299, 0.4884),
}


@pytest.mark.parametrize(("on", "how"), AIMS)
def test_the_shipped_model_reaches_its_aims(on: str, how: str) -> None:
    """The figures that the training command wrote beside the artifact."""
    (row,) = (row for row in SHIPPED_ROWS if (row["on"], row["how"]) == (on, how))
    auc, loss = MISSED.get((on, how), AIMS[on, how])
    assert row["roc_auc"] >= auc
    assert row["log_loss"] <= loss


def test_the_card_names_every_miss() -> None:
    missed = {(row["on"], row["how"]) for row in misses(SHIPPED_ROWS)}
    assert missed == set(MISSED)
    card = (SHIPPED / "README.md").read_text()
    lines = [line for line in card.splitlines() if line.endswith("| **missed** |")]
    assert {tuple(line.strip("| ").split(" | ")[:2]) for line in lines} == missed
    for row in unreliable(SHIPPED_ROWS):
        assert f"{row['on']}, {row['how']}: {row['confidence']['high']['accuracy']:.1%}" in card


def test_the_readme_says_how_reliable_answers_are_as_the_card_does() -> None:
    sentence = reliability(SHIPPED_ROWS)
    assert sentence in " ".join((ROOT / "README.md").read_text().split())
    assert sentence in (SHIPPED / "README.md").read_text()


def test_high_confidence_is_as_reliable_as_it_should_be_wherever_something_was_aimed_at() -> None:
    assert {(row["on"], row["how"]) for row in unreliable(SHIPPED_ROWS)} & set(AIMS) == set()


def test_high_confidence_is_never_given_after_one_or_two_messages() -> None:
    early = [row for row in SHIPPED_ROWS if row["how"] in (streamed(1), streamed(2))]
    assert early
    assert [row["on"] for row in early if row["confidence"]["high"]["answers"]] == []


def test_the_shipped_model_is_calibrated_at_home() -> None:
    rows = [row for row in SHIPPED_ROWS if "cross-validation" in row["on"] and row["how"] == COMPLETE_CHATS]
    assert len(rows) == 2
    assert all(row["calibration_error"] <= 0.04 for row in rows)


def test_the_shipped_model_is_better_than_the_base_rate_on_other_games() -> None:
    rows = [row for row in SHIPPED_ROWS if row["on"].endswith("left out") and row["how"] == COMPLETE_CHATS]
    assert len(rows) == 2
    assert all(row["log_loss"] < row["log_loss_of_base_rate"] for row in rows)


def test_the_report_shows_figures_and_pictures(trained: Path) -> None:
    report = (trained / REPORT).read_text()
    assert report.count("<svg") == 6
    for row in json.loads((trained / METRICS).read_text())["measured"]:
        assert f"<td>{row['roc_auc']:.4f}</td>" in report


def test_a_stored_model_is_evaluated(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained), str(SAMPLE), "--include-trained"]) == 0
    shown = capsys.readouterr().out
    for part in measure_on(Classifier.load(trained), read_editions([SAMPLE])):
        figures = f"ROC AUC {part.roc_auc():.4f}, log loss {part.log_loss():.4f}"
        assert f"sample (trained on 40 of 40 chats), {part.how}: {figures}" in shown


def test_the_competitions_file_is_written(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    assert main(["predict", str(trained), str(SAMPLE / CHATS), "--out", str(out)]) == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    answers = Classifier.load(trained).predict(read_editions([SAMPLE])[0].chats)
    expected = {f"{a.chat_id}_{s.participant_id}": s.is_bot_probability for a in answers for s in a.participants}
    assert {row["ID"]: float(row["is_bot"]) for row in rows} == expected


@pytest.mark.parametrize(
    "arguments", [["evaluate", "nowhere", str(SAMPLE)], ["predict", str(SHIPPED), "nowhere.json", "--out", "x.csv"]]
)
def test_what_cannot_be_used_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith("train: nowhere")


def test_the_calibration_error_is_the_gap_between_said_and_true() -> None:
    labels = np.array([1, 0, 1, 1])
    assert calibration_error(labels, np.array([1.0, 0.0, 1.0, 1.0])) == 0
    assert calibration_error(labels, np.array([0.55, 0.55, 0.55, 0.55])) == pytest.approx(0.2)
