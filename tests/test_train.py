import csv
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.classifier import ARTIFACT, METRICS, SHIPPED, Classifier
from tests.conftest import ROOT, SAMPLE, make_chat, sample_bodies
from train.__main__ import main
from train.data import CHATS, LABELS, DataError, Edition, read_editions
from train.evaluate import calibration_error, measure_on
from train.fit import Table, fit, folds, tabulate
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
    for row in metrics["measured"]:
        assert f"| {row['on']} | {row['roc_auc']:.4f} | {row['log_loss']:.4f} |" in card


def test_the_same_data_gives_the_same_artifact(trained: Path, tmp_path: Path) -> None:
    assert main([str(SAMPLE), "--out", str(tmp_path), "--quiet"]) == 0
    assert (trained / ARTIFACT).read_bytes() == (tmp_path / ARTIFACT).read_bytes()


def test_without_arguments_the_shipped_model_stays(tmp_path: Path) -> None:
    before = (SHIPPED / ARTIFACT).read_bytes()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "train"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "trained" / ARTIFACT).exists()
    assert (SHIPPED / ARTIFACT).read_bytes() == before


def test_arrays_give_what_scikit_learn_gives() -> None:
    (edition,) = read_editions([SAMPLE])
    table, labels = tabulate(edition)
    fitted = fit(table, labels)
    answers = Classifier(fitted.weights(), "test").predict(edition.chats)
    got = [side.is_bot_probability for answer in answers for side in answer.participants]
    assert got == pytest.approx(fitted.predict(table).tolist(), abs=1e-9)


def test_chats_are_kept_together() -> None:
    table, labels = tabulate(*read_editions([SAMPLE]))
    held_out = []
    for rest, part in folds(labels, table.group, seed=1):
        assert not set(table.group[rest]) & set(table.group[part])
        held_out += part.tolist()
    assert sorted(held_out) == list(range(len(labels)))


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
    table, labels = tabulate(habits(120))
    half = np.flatnonzero(table.group < 60)
    rest = np.flatnonzero(table.group >= 60)
    got = fit(table.take(half), labels[half]).predict(table.take(rest))
    assert roc_auc_score(labels[rest], got) > 0.95


def test_others_words_are_the_other_ones_own() -> None:
    (edition,) = read_editions([SAMPLE])
    table = Table(edition.chats[:1])
    assert (table.own[0] != table.others[1]).nnz == 0
    assert (table.own[1] != table.others[0]).nnz == 0


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "data"))


def test_the_participant_index_may_be_a_string(data: Path) -> None:
    dialogs = json.loads((data / CHATS).read_text())
    for messages in dialogs.values():
        for message in messages:
            message["participant_index"] = str(message["participant_index"])
    (data / CHATS).write_text(json.dumps(dialogs))
    (strings,), (integers,) = read_editions([data]), read_editions([SAMPLE])
    assert (strings.chats, strings.labels) == (integers.chats, integers.labels)


def rewrite_labels(data: Path, rows: list[list[str]]) -> None:
    with (data / LABELS).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def label_rows(data: Path) -> list[list[str]]:
    with (data / LABELS).open() as file:
        return list(csv.reader(file))


def test_a_missing_label_is_named(data: Path) -> None:
    rows = label_rows(data)
    rewrite_labels(data, rows[:-1])
    with pytest.raises(DataError, match="no label for dialog sample-40, participant 1"):
        read_editions([data])


def test_an_unknown_dialog_is_named_with_its_line(data: Path) -> None:
    rewrite_labels(data, [*label_rows(data), ["nowhere", "0", "1"]])
    with pytest.raises(DataError, match="line 82: dialog nowhere"):
        read_editions([data])


def test_a_wrong_label_is_named_with_its_line(data: Path) -> None:
    rows = label_rows(data)
    rows[3][2] = "2"
    rewrite_labels(data, rows)
    with pytest.raises(DataError, match="line 4: is_bot"):
        read_editions([data])


def test_a_broken_message_is_named_without_its_text(data: Path) -> None:
    dialogs = json.loads((data / CHATS).read_text())
    dialogs["sample-02"][0]["text"] = ["secret"]
    (data / CHATS).write_text(json.dumps(dialogs))
    with pytest.raises(DataError, match="dialog sample-02") as error:
        read_editions([data])
    assert "secret" not in str(error.value)


def test_the_command_ends_with_1_for_data_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "train.json: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("on", "auc", "loss"),
    [
        ("2026, 5-fold cross-validation", 0.975, 0.20),
        ("2025, 5-fold cross-validation", 0.945, 0.28),
        ("trained on 2025, tested on 2026", 0.89, 0.45),
        ("trained on 2026, tested on 2025", 0.87, 0.46),
    ],
)
def test_the_shipped_model_reaches_its_floors(on: str, auc: float, loss: float) -> None:
    """The figures that the training command wrote beside the artifact."""
    (row,) = (row for row in json.loads((SHIPPED / METRICS).read_text())["measured"] if row["on"] == on)
    assert row["roc_auc"] >= auc
    assert row["log_loss"] <= loss
    if "cross-validation" in on:
        assert row["calibration_error"] <= 0.03


def test_the_shipped_model_is_no_worse_than_the_base_rate_elsewhere() -> None:
    rows = json.loads((SHIPPED / METRICS).read_text())["elsewhere"]
    assert len(rows) == 2
    assert all(row["log_loss"] <= row["log_loss_of_base_rate"] for row in rows)


def test_the_report_shows_figures_and_pictures(trained: Path) -> None:
    report = (trained / REPORT).read_text()
    assert report.count("<svg") == 6
    for row in json.loads((trained / METRICS).read_text())["measured"]:
        assert f"<td>{row['roc_auc']:.4f}</td>" in report


def test_a_stored_model_is_evaluated(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(trained), str(SAMPLE)]) == 0
    (part,) = measure_on(Classifier.load(trained), read_editions([SAMPLE]))
    assert (
        f"sample: ROC AUC {part.row()['roc_auc']:.4f}, log loss {part.row()['log_loss']:.4f}" in capsys.readouterr().out
    )


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
