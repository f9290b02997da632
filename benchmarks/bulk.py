"""`python -m benchmarks.bulk`: the command `bot-or-human score` beside the classifier in one process.

The classifier gets chats that are parsed already, in batches as large as those of the command, and its predictions are
dropped; the command reads lines of JSON and writes lines of JSON. Both score the same made-up chats, in turns. The
ratio is the throughput of the command over that of the classifier times the number of workers, each by the CPU time of
all processes and by the clock. Memory is read once a second while the command scores `--chats` chats.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.chats import draw_chats
from models.bulk import BATCH
from models.chat import Chat
from models.classifier import Classifier

DIFFERENT = 20_000  # chats; longer files repeat them with other numbers
WARM_UP = 2_000


@dataclass
class Run:
    """A run of the command: seconds of CPU time and of the clock, and memory in MB by the second and process."""

    cpu: float = 0
    clock: float = 0
    memory: list[list[float]] = field(default_factory=list)  # of the process that reads, then of each worker


def write_chats(file: Path, chats: int) -> None:
    """Write so many made-up chats as JSON Lines."""
    bodies = draw_chats(min(chats, DIFFERENT))
    with file.open("w", encoding="utf-8") as lines:
        for number in range(chats):
            body = {**bodies[number % DIFFERENT], "chat_id": number}
            lines.write(json.dumps(body, ensure_ascii=False) + "\n")


def score_in_process(classifier: Classifier, chats: Sequence[Chat]) -> tuple[float, float]:
    """Score chats in batches; returns the seconds of CPU time and of the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    for start in range(0, len(chats), BATCH):
        classifier.predict(chats[start : start + BATCH])
    return time.process_time() - cpu, time.perf_counter() - clock


def run_command(file: Path, processes: int) -> Run:
    """Score a file with the command."""
    command = [sys.executable, "-m", "models", "score", str(file), "--out", f"{file}.scores", "--quiet"]
    before, run = os.times(), Run()
    begin = time.perf_counter()
    process = subprocess.Popen([*command, "--processes", str(processes)])  # noqa: S603  # this interpreter
    while process.poll() is None:
        run.memory.append(list(_memory(process.pid)))
        time.sleep(1 if len(run.memory) > processes else 0.2)
    if process.returncode:
        raise RuntimeError("the command failed")
    after = os.times()
    run.clock = time.perf_counter() - begin
    run.cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return run


def _memory(pid: int) -> Iterator[float]:
    """Return the resident memory, in MB, of a process and of its workers, which are those that hold a model."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (str(pid), *children):
            if "resource_tracker" not in Path(f"/proc/{each}/cmdline").read_text():
                pages = int(Path(f"/proc/{each}/statm").read_text().split()[1])
                yield pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:  # it has ended meanwhile
        return


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the tables of `benchmarks/results/bulk.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chats", type=int, default=1_000_000, help="chats of the long file")
    parser.add_argument("--rounds", type=int, default=3, help="of the short file, a tenth of the chats")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    short = options.chats // 10
    classifier = Classifier.load()
    with TemporaryDirectory() as folder:
        few, many = Path(folder, "few.jsonl"), Path(folder, "many.jsonl")
        write_chats(few, short)
        write_chats(many, options.chats)
        chats = [Chat.model_validate_json(line) for line in few.read_bytes().splitlines()[:DIFFERENT]]
        gc.freeze()  # as in a worker
        gc.set_threshold(100_000)
        score_in_process(classifier, chats[:WARM_UP])
        rounds = []
        for _ in range(options.rounds):
            alone = np.array(score_in_process(classifier, chats)) / len(chats)
            run = run_command(few, options.processes)
            rounds.append([*alone, run.cpu / short, run.clock / short * options.processes])
        long = run_command(many, options.processes)
    cpu, clock, of_command, of_core = np.median(rounds, axis=0) * 1e6
    print(f"{short:,} chats, median of {options.rounds} rounds in turns; {options.processes} workers\n")
    print("| µs for each chat | classifier | command | ratio |\n| --- | --- | --- | --- |")
    print(f"| CPU time | {cpu:.0f} | {of_command:.0f} | {cpu / of_command:.2f} |")
    print(f"| time of a core | {clock:.0f} | {of_core:.0f} | {clock / of_core:.2f} |\n")
    of_command, of_core = long.cpu / options.chats * 1e6, long.clock / options.chats * options.processes * 1e6
    print(f"{options.chats:,} chats in {long.clock:.0f} s: {of_command:.0f} µs of CPU time for each")
    print(f"({cpu / of_command:.2f}), {of_core:.0f} µs of a core ({clock / of_core:.2f})\n")
    print("| memory, MB | the process that reads | workers |\n| --- | --- | --- |")
    full = [row for row in long.memory if len(row) == options.processes + 1]
    for name, row in (("after a tenth", full[len(full) // 10]), ("at the end", full[-1])):
        print(f"| {name} | {row[0]:.0f} | {', '.join(f'{worker:.0f}' for worker in row[1:])} |")


if __name__ == "__main__":
    main()
