"""`python -m benchmarks.scoring`: the classifier compared with a plain scikit-learn pipeline, in one process.

The plain pipeline consists of hashed character n-grams of both sides' texts and a logistic regression. With
`--against FOLDER` the classifier of another checkout takes its place; each has a process, and they take turns.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.chats import draw_chats
from benchmarks.plain import PlainPipeline
from models.chat import Chat
from models.classifier import Classifier

BATCH = 64
LOAD = """
import time
from models.classifier import Classifier
from models.chat import Chat

def memory():
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS"))

before = memory()
start = time.perf_counter()
classifier = Classifier.load()
seconds = time.perf_counter() - start
print(seconds, before, memory())
"""


# Scores the same chats for each line that it reads: the number of chats in a batch. Writes the seconds of CPU time.
TURNS = """
import sys
import time
from benchmarks.chats import draw_chats
from models.chat import Chat
from models.classifier import Classifier

classifier = Classifier.load()
classifier.predict([Chat.model_validate(body) for body in draw_chats(400, seed=2)])
chats = [Chat.model_validate(body) for body in draw_chats(int(sys.argv[1]))]
for line in sys.stdin:
    size = int(line)
    start = time.process_time()
    for at in range(0, len(chats), size):
        classifier.predict(chats[at : at + size])
    print(time.process_time() - start, flush=True)
"""


class Checkout:
    """A process that scores chats with the classifier of a checkout."""

    def __init__(self, folder: Path, chats: int) -> None:
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter, code of the user's choice
            [sys.executable, "-c", TURNS, str(chats)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder.resolve()), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def score(self, batch: int) -> float:
        """Score all chats in batches of this size; returns the seconds of CPU time."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        print(batch, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def stop(self) -> None:
        """Stop the process."""
        self._process.terminate()
        self._process.wait()


def compare(other: Path, chats: int, rounds: int) -> None:
    """Measure this checkout and another one, round by round in turns, and print medians and ratios."""
    here, there = (Checkout(folder, chats) for folder in (Path(__file__).parent.parent, other))
    print(f"{chats} chats, median of {rounds} rounds in turns\n")
    print("| | the other checkout, ms | this one, ms | ratio |\n| --- | --- | --- | --- |")
    try:
        for name, batch in (("one chat", 1), (f"a chat in batches of {BATCH}", BATCH)):
            for process in (there, here):
                process.score(batch)  # fills the caches
            pairs = [(there.score(batch), here.score(batch)) for _ in range(rounds)]
            before, after = (float(np.median(column)) / chats * 1000 for column in zip(*pairs, strict=True))
            ratio = float(np.median([second / first for first, second in pairs]))
            print(f"| {name} | {before:.3f} | {after:.3f} | {ratio:.2f} |")
    finally:
        here.stop()
        there.stop()


def time_of(run: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both, round by round in turns, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chats", type=int, default=1280, help="how many chats are scored in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout to compare with")
    options = parser.parse_args(arguments)
    if options.against:
        compare(options.against, options.chats, options.rounds)
        return

    seconds, before, after = subprocess.run(  # noqa: S603  # this interpreter, this code
        [sys.executable, "-c", LOAD], check=True, capture_output=True, text=True
    ).stdout.split()
    print(f"loading the classifier: {float(seconds):.3f} s, {(int(after) - int(before)) / 1024:.0f} MB")

    fitted_on = [Chat.model_validate(body) for body in draw_chats(400, seed=2)]
    chats = [Chat.model_validate(body) for body in draw_chats(options.chats)]
    batches = [chats[start : start + BATCH] for start in range(0, len(chats), BATCH)]
    plain, ours = PlainPipeline(fitted_on), Classifier.load()
    ours.predict(fitted_on)
    ways: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "one chat": (
            lambda: [plain.predict([chat]) for chat in chats],
            lambda: [ours.predict([chat]) for chat in chats],
        ),
        f"a chat in batches of {BATCH}": (
            lambda: [plain.predict(batch) for batch in batches],
            lambda: [ours.predict(batch) for batch in batches],
        ),
    }
    print(f"{len(chats)} chats, median of {options.rounds} rounds in turns\n")
    print("| | plain pipeline, ms | classifier, ms | times faster |\n| --- | --- | --- | --- |")
    for name, (slow, fast) in ways.items():
        pairs = [(time_of(slow), time_of(fast)) for _ in range(options.rounds)]
        first, second = (float(np.median(column)) / len(chats) * 1000 for column in zip(*pairs, strict=True))
        ratio = float(np.median([a / b for a, b in pairs]))
        print(f"| {name} | {first:.3f} | {second:.3f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
