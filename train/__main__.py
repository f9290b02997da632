"""`python -m train`: fit and measure the classifier, measure a stored one, or predict with it.

Exit codes: 0 success, 1 unusable data or model (one line says where), 2 invalid arguments, 3 the traffic has drifted,
130 interrupted (Ctrl-C).
"""

import argparse
import csv
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from models.classifier import Classifier
from models.validation import share_argument
from models.weights import SHIPPED, ModelError
from train.artifact import check_artifact, read_trained_on, write_artifact
from train.card import write_card
from train.data import DataError, Edition, check_enough, fingerprint, read_chats, read_editions, write_edition
from train.dialogs import read_served
from train.drift import LEAST_CHATS, compare_log, read_log, summary, write_drift_report
from train.evaluate import AFTER, Measured, count_models, evaluate, fit_all, measure, measure_people, plan, streamed
from train.files import replacing, replacing_file
from train.fit import FOLDS, tabulate
from train.reference import KINDS, REFERENCE, Reference, cross_assess
from train.registry import register
from train.replay import replay, served_version
from train.report import REPORT, write_report

SAMPLE = Path(__file__).parent / "sample"
UNSHIPPED = Path("trained")
FIT_SECONDS = 0.01  # for each chat and model on two cores: 941 s of CPU time for 3,204 chats and 14 models
DRIFTED, INTERRUPTED = 3, 130  # exit codes
INCLUDE_TRAINED = "also measure chats that the model was trained on; their figures, which are too good, are marked"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    named = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    parser, run = COMMANDS[named]
    options = parser().parse_intermixed_args(arguments[1:] if named else arguments)
    try:
        with threadpool_limits(1):  # sums in another order, as on another number of cores, would give another model
            code = run(options) or 0
            sys.stdout.flush()
            return code
    except (DataError, ModelError, OSError) as error:
        print("train:", " ".join(str(error).split()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: interrupted", file=sys.stderr)
        return INTERRUPTED


def _run() -> int:
    """Run the command of this process, whose output may go anywhere."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of folders may hold any bytes
    code = main()
    try:
        sys.stdout.flush()
    except OSError:  # its reader has ended, or its disk is full, which was said; Python would try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _fit(options: argparse.Namespace) -> None:
    home, elsewhere = _read_apart(options.data or [SAMPLE], options.elsewhere)
    people = read_editions(options.people)
    out: Path = options.out or (SHIPPED if options.data else UNSHIPPED)
    models_to_fit = count_models(home, elsewhere)
    with replacing(out) as new:
        if not options.quiet:
            _announce(sum(len(edition.chats) for edition in (*home, *elsewhere)), models_to_fit)
        table = tabulate(home, elsewhere)
        steps = plan(home, elsewhere, table)
        with tqdm(total=len(steps) + 1, unit="fit", desc="train", disable=options.quiet) as bar:
            parts = [np.unique(table.chat), *(step.fitted_on for step in steps)]
            shipped, *fitted = fit_all(table, parts, lambda: bar.update(1))
        models = [Classifier(one.weights(), "measured") for one in fitted]
        measured = evaluate(home, elsewhere, steps, models)
        weights = shipped.weights()
        of_people = [part for edition in people for part in measure_people(Classifier(weights, "measured"), edition)]
        metrics = write_artifact(new, weights, [*home, *elsewhere], measured, of_people)
        Reference.of(metrics["version"], cross_assess(home, steps[:FOLDS], models[:FOLDS])).write(new)
        write_card(new, metrics)
        write_report(new / REPORT, metrics, measured, shipped)
        check_artifact(new, weights, [chat for edition in home for chat in edition.chats])
    print(f"{out}: model {metrics['version']}")
    if options.store:
        print(f"BentoML's model store: {register(out)}")
    _print([*measured, *of_people])


def _announce(chats: int, models: int) -> None:
    """Say how long the training takes; the progress bar says later how long it will go on."""
    minutes = round(chats * models * FIT_SECONDS / 60)
    how_long = f"about {minutes} minutes on two cores" if minutes > 1 else "about a minute"
    print(f"train: {chats} chats, {models} models to fit: {how_long}", file=sys.stderr)


def _read_apart(home: Sequence[Path], elsewhere: Sequence[Path]) -> tuple[list[Edition], list[Edition]]:
    """Read the data sets to train on, none of which holds a chat of another: nothing is measured on a known chat."""
    editions = [*read_editions(home), *read_editions(elsewhere)]
    repeated = [name for name, often in Counter(edition.name for edition in editions).items() if often > 1]
    if repeated:
        raise DataError(f"there are several folders with the name {repeated[0]}, by which figures are told apart")
    known: set[bytes] = set()
    for at, edition in enumerate(editions):
        editions[at] = edition.without(known)
        if seen := len(edition.chats) - len(editions[at].chats):
            print(f"left out: {seen} of {len(edition.chats)} chats of {edition.name}, which are in another folder, too")
        if not editions[at].chats:
            raise DataError(f"{edition.name}: all chats are in another folder, too")
        known |= set(map(fingerprint, edition.chats))
    check_enough(editions[: len(home)], least=FOLDS)
    return editions[: len(home)], editions[len(home) :]


def _evaluate(options: argparse.Namespace) -> None:
    if not (options.data or options.elsewhere or options.dialogs) or (options.write and not options.dialogs):
        raise DataError("evaluate needs folders of data or --dialogs, and --write needs --dialogs")
    classifier = Classifier.load(options.model)
    _, known = read_trained_on(options.model)
    measured: list[Measured] = []

    def measure_unknown(edition: Edition, *, finished: bool) -> list[Measured]:
        chosen = _choose(edition, known, options)
        if not chosen.chats:
            return []
        return measure(classifier, chosen.name, chosen.chats, chosen.labels, finished=finished)

    for folders, finished in ((options.data, True), (options.elsewhere, False)):
        measured += [part for e in read_editions(folders) for part in measure_unknown(e, finished=finished)]
    if options.dialogs:
        url, labels = options.dialogs
        served = read_served(url, Path(labels))
        dialogs = Edition("dialogs that were served", "", served.chats, served.labels)
        measured += [part for part in measure_unknown(dialogs, finished=False) if part.how in map(streamed, AFTER)]
        for count, why in ((served.missing, "not in the store"), (served.unlabelled, "without a label for everybody")):
            if count:
                print(f"left out: {count} dialogs {why}")
        if options.write:
            with replacing(options.write) as folder:
                write_edition(folder, served.chats, served.labels)
            print(f"{options.write}: {len(served.chats)} dialogs")
    _check_any(measured)
    _print(measured)


def _choose(edition: Edition, known: Container[bytes], options: argparse.Namespace) -> Edition:
    """Return an edition without the chats that the model was trained on, or marked if they are to be included."""
    unknown = edition.without(known)
    seen, chats = len(edition.chats) - len(unknown.chats), len(edition.chats)
    if options.include_trained:
        return replace(edition, name=f"{edition.name} (trained on {seen} of {chats} chats)") if seen else edition
    if seen:
        print(f"left out: {seen} of {chats} chats of {edition.name}, which the model was trained on")
    return unknown


def _check_any(measured: Sequence[Measured]) -> None:
    if not measured:
        raise DataError(
            "nothing is left to measure; the model's card has the figures of cross-validation, and --include-trained"
            " measures chats that the model was trained on, for which it is too good"
        )


def _make_reference(options: argparse.Namespace) -> None:
    version = Classifier.load(options.model).version
    home, elsewhere = _read_apart(options.data, options.elsewhere)
    with replacing(options.model) as folder:
        table = tabulate(home, elsewhere)
        steps = plan(home, elsewhere, table)[:FOLDS]
        with tqdm(total=len(steps), unit="fit", desc="reference", disable=options.quiet) as bar:
            fitted = fit_all(table, [step.fitted_on for step in steps], lambda: bar.update(1))
        samples = cross_assess(home, steps, [Classifier(one.weights(), version) for one in fitted])
        Reference.of(version, samples).write(folder)
    print(f"{options.model / REFERENCE}: {', '.join(f'{len(samples[kind].chats())} {kind}' for kind in KINDS)}")


def _drift(options: argparse.Namespace) -> int:
    version = Classifier.load(options.model).version
    reference = Reference.load(options.model, version)
    log = read_log(options.logs, version)
    comparisons = compare_log(log, reference)
    with replacing_file(options.out) as report:
        write_drift_report(report, log, reference, comparisons)
    print("\n".join([*summary(log, comparisons), f"report: {options.out}"]))
    return DRIFTED if any(comparison.drifted() for comparison in comparisons) else 0


def _predict(options: argparse.Namespace) -> None:
    classifier = Classifier.load(options.model)
    chats = [chat.model_copy(update={"finished": True}) for chat in read_chats(options.chats)]
    with replacing_file(options.out) as out, out.open("w", newline="", encoding="utf-8") as file:
        answers = classifier.predict(chats, options.expected_bot_share)
        rows = csv.writer(file)
        rows.writerow(["ID", "is_bot"])
        for answer in answers:
            rows.writerows([f"{answer.chat_id}_{s.participant_id}", s.is_bot_probability] for s in answer.participants)
    print(f"{options.out}: {len(answers)} dialogs, model {classifier.version}")


def _replay(options: argparse.Namespace) -> None:
    version, known = read_trained_on(options.model)
    served = served_version(options.url)
    if served != version:
        if not options.include_trained:
            raise DataError(
                f"{options.url}: model {served} answers, and {options.model} holds {version}, so that chats that it was"
                " trained on cannot be left out; name its folder with --model, or measure all with --include-trained"
            )
        print(f"model {served} may have been trained on any of these chats")
    editions = [_choose(edition, known, options) for edition in read_editions(options.data)]
    measured: list[Measured] = []
    for edition in (edition for edition in editions if edition.chats):
        replayed = replay(options.url, edition, disable=options.quiet)
        _print(replayed.measured)
        measured += replayed.measured
        for reason, chats in replayed.rejected.items():
            print(f"left out: {chats} chats that the service rejected ({reason})")
    _check_any(measured)


def _print(measured: Sequence[Measured]) -> None:
    for part in measured:
        auc = f"ROC AUC {part.roc_auc():.4f}" if part.has_both() else f"no ROC AUC (no {_absent(part)})"
        print(f"{part.on}, {part.how}: {auc}, log loss {part.log_loss():.4f}, {len(part.labels)} answers")


def _absent(part: Measured) -> str:
    return "people" if part.labels[0] else "bots"


def _fit_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train",
        description="Fit the bot-or-human classifier, cross-validate it, and write artifact, metrics, card and report.",
        epilog="More: `python -m train evaluate --help`, likewise drift, predict, reference and replay.",
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="*",
        type=Path,
        help=f"folders with train.json and ytrain.csv; default: the small sample that comes with the project, in which"
        f" case --out is {UNSHIPPED}/ and the shipped artifact stays",
    )
    parser.add_argument(
        "--elsewhere",
        metavar="DATA",
        nargs="+",
        type=Path,
        default=[],
        help="folders of other games' chats: the shipped model is fitted on them as well, and each is measured with a"
        " model that has not seen it",
    )
    parser.add_argument(
        "--people",
        metavar="DATA",
        nargs="+",
        type=Path,
        default=[],
        help="folders of chats in which nobody is a bot: measures how many people the model calls bots",
    )
    parser.add_argument("--out", type=Path, help="folder for artifact, metrics, card and report (default: models/)")
    parser.add_argument(
        "--store", action="store_true", help="also register the model in BentoML's model store, for MODEL=name:version"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _evaluate_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train evaluate",
        description="Measure a stored classifier on labelled chats, or on dialogs that a service has stored.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="folder with classifier.npz and metrics.json")
    parser.add_argument(
        "data", metavar="DATA", nargs="*", type=Path, help="folders of You are Bot's finished chats, as for training"
    )
    parser.add_argument("--elsewhere", metavar="DATA", nargs="+", type=Path, default=[], help="folders of other chats")
    parser.add_argument("--include-trained", action="store_true", help=INCLUDE_TRAINED)
    parser.add_argument(
        "--dialogs",
        metavar=("URL", "LABELS"),
        nargs=2,
        help="the service's store (as in HISTORY_URL) and a CSV file with dialog_id, participant_index and is_bot:"
        " measures each answer that was given while the dialog went on",
    )
    parser.add_argument(
        "--write", metavar="FOLDER", type=Path, help="writes the dialogs and labels as a folder to train on"
    )
    return parser


def _replay_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train replay",
        description="Send labelled chats to a running service message by message, and measure its answers.",
    )
    parser.add_argument("url", metavar="URL", help="for example http://localhost:8000")
    parser.add_argument("data", metavar="DATA", nargs="+", type=Path, help="folders with train.json and ytrain.csv")
    parser.add_argument(
        "--model", type=Path, default=SHIPPED, help="folder of the model that the service has (default: models/)"
    )
    parser.add_argument("--include-trained", action="store_true", help=INCLUDE_TRAINED)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _reference_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train reference",
        description="Write what is normal for a stored classifier, with which `drift` compares, beside it; `python -m"
        " train` does so by itself. Give the data that the classifier was trained on.",
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="folder with classifier.npz and metrics.json")
    parser.add_argument("data", metavar="DATA", nargs="+", type=Path, help="folders with train.json and ytrain.csv")
    parser.add_argument("--elsewhere", metavar="DATA", nargs="+", type=Path, default=[], help="as for training")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _drift_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train drift",
        description="Compare the traffic of a monitoring log (MONITORING) with the training data, and write a report.",
        epilog=f"Exit code {DRIFTED}: a value has drifted. 0: none has, or there are fewer than {LEAST_CHATS} chats.",
    )
    parser.add_argument("logs", metavar="LOG", nargs="+", type=Path, help="files of the log, or its folder")
    parser.add_argument(
        "--model", type=Path, default=SHIPPED, help="folder of the model that answered (default: models/)"
    )
    parser.add_argument("--out", type=Path, default=Path("drift.html"), help="the report (default: drift.html)")
    return parser


def _predict_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train predict", description="Predict for the competition: a CSV file with ID,is_bot."
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="folder with classifier.npz and metrics.json")
    parser.add_argument("chats", metavar="test.json", type=Path, help="dialogs in the format of train.json")
    parser.add_argument("--out", type=Path, required=True, help="the file to write, for example submission.csv")
    parser.add_argument(
        "--expected-bot-share",
        type=share_argument,
        metavar="SHARE",
        help="share of bots among the participants, between 0 and 1 (default: that of the training data)",
    )
    return parser


COMMANDS: dict[str, tuple[Callable[[], argparse.ArgumentParser], Callable[[argparse.Namespace], int | None]]] = {
    "": (_fit_parser, _fit),
    "evaluate": (_evaluate_parser, _evaluate),
    "predict": (_predict_parser, _predict),
    "drift": (_drift_parser, _drift),
    "reference": (_reference_parser, _make_reference),
    "replay": (_replay_parser, _replay),
}

if __name__ == "__main__":
    sys.exit(_run())
