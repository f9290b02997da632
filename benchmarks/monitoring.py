"""The cost of the monitoring log: throughput and latency with and without `MONITORING`, in turns.

    python -m benchmarks.monitoring

Results: `benchmarks/results/monitoring.md`.
"""

import json
import tempfile
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.chats import draw_chats
from benchmarks.serving import RESULTS, Contestant, contestants, drive, running

CLIENTS = (1, 32)
ROUNDS = 5
SECONDS = 6


def main() -> None:
    """Measure both in turns; print the table and write it to a file."""
    ours = contestants()[0]
    lines = [json.dumps(chat, ensure_ascii=False) for chat in draw_chats(2000)]
    runs: dict[tuple[bool, int], list[dict[str, Any]]] = {key: [] for key in product((False, True), CLIENTS)}
    lost = written = 0
    with tempfile.TemporaryDirectory() as folder:
        chats, log = Path(folder) / "chats.jsonl", Path(folder) / "log"
        chats.write_text("\n".join(lines), encoding="utf-8")
        for _, on in product(range(ROUNDS), (False, True)):
            environment = {"MONITORING": str(log)} if on else {}
            with running(Contestant(ours.name, ours.command, environment), lines[0].encode()):
                for clients in CLIENTS:
                    runs[on, clients].append(drive(clients, SECONDS, chats))
        for file in log.glob("*.jsonl*"):
            for line in file.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                lost += entry.get("lost", 0)
                written += "lost" not in entry
    rows = [
        f"Medians of {ROUNDS} runs of {SECONDS} s, with and without the log in turns. Lines that the log still holds:"
        f" {written}; lost lines that it names: {lost}.",
        "",
        "| clients | log | requests/s | p50, ms | p99, ms |",
        "| --- | --- | --- | --- | --- |",
    ]
    for clients, on in product(CLIENTS, (False, True)):
        of_both = runs[on, clients]
        rate = median(run["requests"] / run["seconds"] for run in of_both)
        p50, p99 = (median(run[name] for run in of_both) for name in ("p50_ms", "p99_ms"))
        rows.append(f"| {clients} | {'on' if on else 'off'} | {rate:.0f} | {p50:.2f} | {p99:.2f} |")
    (RESULTS / "monitoring.md").write_text("\n".join(["# The monitoring log", "", *rows]) + "\n", encoding="utf-8")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
