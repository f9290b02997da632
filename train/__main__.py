"""`python -m train [DATA …]`: fit, cross-validate, and write artifact, metrics and model card.

Exit codes: 0 done, 1 the data cannot be used (one line says where), 2 wrong arguments.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from models.classifier import SHIPPED
from train.artifact import write_artifact
from train.card import write_card
from train.data import DataError, read_editions
from train.evaluate import evaluate, steps_of
from train.fit import FITS, fit, tabulate

SAMPLE = Path(__file__).parent / "sample"
UNSHIPPED = Path("trained")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    folders = options.data or [SAMPLE]
    out = options.out or (SHIPPED if options.data else UNSHIPPED)
    try:
        editions = read_editions(folders)
    except DataError as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    with tqdm(total=FITS + steps_of(editions), unit="fit", desc="train", disable=options.quiet) as bar:
        tables = [tabulate(edition) for edition in editions]
        measured = evaluate(editions, tables, lambda: bar.update(1))
        fitted = fit(*tabulate(*editions), step=lambda: bar.update(1))
    metrics = write_artifact(out, fitted.weights(), editions, measured)
    write_card(out, metrics)
    print(f"{out}: model {metrics['version']}, " + "; ".join(f"{row['on']}: {row['roc_auc']:.4f}" for row in measured))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train", description="Train the bot-or-human classifier.")
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="*",
        type=Path,
        help=f"folders with train.json and ytrain.csv; without any, the small sample that comes with the project"
        f" (then --out is {UNSHIPPED}/, not the shipped artifact's folder)",
    )
    parser.add_argument("--out", type=Path, help="folder for artifact, metrics and card (default: models/)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


if __name__ == "__main__":
    sys.exit(main())
