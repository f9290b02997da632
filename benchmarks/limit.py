"""The effect of `MAX_CONCURRENCY` on throughput and latency, at and above the limit.

    python -m benchmarks.limit

For each limit wrk runs with as many clients as the limit and with twice as many, which retry rejected requests at once.
"""

import json
import tempfile
from pathlib import Path

from benchmarks.chats import draw_chats
from benchmarks.serving import RESULTS, Contestant, contestants, drive, running

LIMITS = (64, 128, 256, 512, 1024)
SECONDS = 8


def main() -> None:
    """Measure each limit; print the table and write it to a file."""
    ours = contestants()[0]
    lines = [json.dumps(chat, ensure_ascii=False) for chat in draw_chats(2000)]
    rows = [
        "| limit | clients | answered/s | refused/s | p50, ms | p99, ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        chats = Path(folder) / "chats.jsonl"
        chats.write_text("\n".join(lines), encoding="utf-8")
        for limit in LIMITS:
            with running(Contestant(ours.name, ours.command, {"MAX_CONCURRENCY": str(limit)}), lines[0].encode()):
                for clients in (limit, 2 * limit):
                    run = drive(clients, SECONDS, chats)
                    answered = (run["requests"] - run["failed"]) / run["seconds"]
                    refused = run["failed"] / run["seconds"]
                    rows.append(
                        f"| {limit} | {clients} | {answered:.0f} | {refused:.0f} | {run['p50_ms']:.0f} |"
                        f" {run['p99_ms']:.0f} |"
                    )
                    print(rows[-1], flush=True)
    (RESULTS / "limit.md").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
