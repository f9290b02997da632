"""`python -m benchmarks.dialogs [URL …]`: messages of dialogs compared with whole chats, on SQLite and other stores.

Compares the throughput of messages in dialogs of seven messages with that of chats of seven messages, and the time of a
message in a dialog of 200 messages with that in a dialog of 20.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import httpx

from benchmarks.chats import draw_chats
from benchmarks.serving import PORT, RUNS, Contestant, contestants, drive, running

LENGTH = 7  # messages in a chat: the mean of the You are Bot data
LENGTHS = (20, 200)
MEASURED = 40  # messages timed at each length


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each store and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("urls", metavar="URL", nargs="*", help="another store, such as postgresql://user@host/database")
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args(arguments)
    print("| store | chats/s, 32 clients | messages/s, 32 clients | ratio | dialog of 200 beside 20 |")
    print("| --- | --- | --- | --- | --- |")
    chats = [chat for chat in draw_chats(6000) if len(chat["messages"]) >= LENGTH]
    for chat in chats:
        chat["messages"] = chat["messages"][:LENGTH]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps(chat, ensure_ascii=False) for chat in chats]
        (folder / "chats.jsonl").write_text("\n".join(lines), encoding="utf-8")
        texts = [json.dumps(message["text"], ensure_ascii=False) for chat in chats for message in chat["messages"]]
        (folder / "texts.jsonl").write_text("\n".join(texts), encoding="utf-8")
        for url in [f"sqlite:///{folder / 'dialogs.sqlite'}", *options.urls]:
            ours = contestants()[0]
            server = Contestant(ours.name, ours.command, {"HISTORY_URL": url})
            with running(server, lines[0].encode()):
                drive(8, 2, folder / "chats.jsonl")
                whole, single = [], []
                for _ in range(RUNS):
                    whole.append(drive(32, options.seconds, folder / "chats.jsonl")["per_second"])
                    told = drive(
                        32, options.seconds, folder / "texts.jsonl", LENGTH, uuid4().hex[:8], script="messages.lua"
                    )
                    single.append(told["per_second"])
                    assert not told["failed"]  # noqa: S101  # the figures would be meaningless
                growth = _growth([json.loads(line) for line in texts])
            first, second = statistics.median(whole), statistics.median(single)
            ratio = f"{second / first:.2f}"
            print(f"| {url.split(':')[0]} | {first:.0f} | {second:.0f} | {ratio} | {growth:.2f} |", flush=True)


def _growth(texts: Sequence[str]) -> float:
    """Return the time of a message in a dialog of 200 messages relative to one of 20 (medians, one client)."""
    medians = []
    with httpx.Client(base_url=f"http://localhost:{PORT}") as client:
        for length in LENGTHS:
            dialog, times = uuid4().hex, []
            for number in range(length + MEASURED // 2):
                start = time.perf_counter()
                body = {
                    "text": texts[number],
                    "dialog_id": dialog,
                    "id": uuid4().hex,
                    "participant_index": number % 2,
                }
                client.post("/predict", json=body).raise_for_status()
                if number >= length - MEASURED // 2:
                    times.append(time.perf_counter() - start)
            medians.append(statistics.median(times))
    return medians[1] / medians[0]


if __name__ == "__main__":
    main()
