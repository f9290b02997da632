"""Serve under load for a while and check every answer: `make soak`, or `python -m tests.faults.soak --minutes 30`.

Clients send chats, batches, messages of dialogs, chats to explain, long chats and invalid requests, and sometimes hang
up. Each probability is compared with the one that the classifier gives in this process.

Every minute the youngest worker is killed; the other one serves from the start to the end, so that its memory tells. In
the middle of the run the folder of the metrics is removed. A kill cuts off the requests that the worker is answering:
each client has at most one. It sends that request again, once, as a platform does; the service stores a repeated
message once. A request is lost if it gets no answer then, or a 5xx at any time. Requests that were cut off are counted.

The exit code is 1 if an answer is wrong or lost, more requests were cut off than were being answered, `/metrics` fails,
or the memory at the end is more than 5 % above that after the first minute.
"""

import argparse
import asyncio
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvloop

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import Reply, Server, running, sample_bodies, send
from tests.faults.client import Connection, long_chat
from train.copies import excerpt

CLIENTS = 32
KILL_AT = 10  # seconds of each minute, so that the successor has started when the memory is read
GROWTH = 1.05  # of memory, after the first minute
TOLERANCE = 1e-9  # of a probability
BAD = [
    ("/predict", b"{", 400),
    ("/predict", b'{"chat_id": 1, "messages": []}', 400),
    ("/predict", b'{"chat_id": 1, "messages": [{"message_id": 0, "text": 1, "participant_id": 0}]}', 400),
    ("/predict_batch", b'{"chats": [{}]}', 400),
    ("/explain", b"[]", 400),
    ("/nothing", b"{}", 404),
    ("/predict", b" " * 2_000_000, 413),
]
KINDS = {"chat": 66, "message": 16, "batch": 6, "explain": 4, "bad": 6, "hang up": 2}  # of 100 requests
LONG_EVERY = 2_000  # requests


class Traffic:
    """The requests, their expected answers, and a count of what happened."""

    def __init__(self, kinds: dict[str, int] = KINDS, seconds: float = math.inf) -> None:
        self._kinds = kinds
        self.deadline = time.monotonic() + seconds
        classifier = Classifier.load()
        self._chats = sample_bodies()
        self._raw = [json.dumps(body).encode() for body in self._chats]
        self._long = long_chat(12_000)
        chats = [Chat.model_validate(body) for body in [*self._chats, json.loads(self._long)]]
        *self._expected, self._expected_long = [_numbers(answer.model_dump()) for answer in classifier.predict(chats)]
        self._by_message = [list(_sender_probabilities(classifier, chat)) for chat in chats[:-1]]
        self.answers: Counter[str] = Counter()
        self.wrong = self.lost = self.cut_off = 0

    async def client(self, url: str, seed: int) -> None:
        """Send one request after another until the deadline."""
        source = random.Random(seed)  # noqa: S311
        dialog: Iterator[tuple[bytes, float]] = iter(())
        async with Connection(url) as connection:
            while time.monotonic() < self.deadline:
                (kind,) = source.choices(list(self._kinds), list(self._kinds.values()))
                if kind == "hang up":
                    await self._hang_up(url, source)
                elif kind == "message":
                    dialog = await self._say(connection, dialog, source)
                elif kind == "bad":
                    path, body, status = source.choice(BAD)
                    self._count(kind, await self.post(connection, path, body), status=status)
                else:
                    await self._ask(connection, kind, source)

    async def post(self, connection: Connection, path: str, body: bytes) -> Reply:
        """Send a request, and once more if the connection fails."""
        reply = await connection.post(path, body)
        if reply.status == 0:
            self.cut_off += 1
            reply = await connection.post(path, body)
        return reply

    async def _ask(self, connection: Connection, kind: str, source: random.Random) -> None:
        at = source.randrange(len(self._raw))
        if kind == "chat" and source.randrange(LONG_EVERY) == 0:
            self._count("long chat", await self.post(connection, "/predict", self._long), self._expected_long)
        elif kind == "batch":
            several = [(at + more) % len(self._raw) for more in range(5)]
            body = b'{"chats": [' + b", ".join(self._raw[one] for one in several) + b"]}"
            expected = [number for one in several for number in self._expected[one]]
            self._count(kind, await self.post(connection, "/predict_batch", body), expected)
        else:
            path = "/explain" if kind == "explain" else "/predict"
            self._count(kind, await self.post(connection, path, self._raw[at]), self._expected[at])

    async def _say(
        self, connection: Connection, dialog: Iterator[tuple[bytes, float]], source: random.Random
    ) -> Iterator[tuple[bytes, float]]:
        """Send the next message of a dialog, or the first one of a new dialog; returns the messages that follow."""
        found = next(dialog, None)
        while found is None:
            at = source.randrange(len(self._chats))
            dialog = _messages(self._chats[at], self._by_message[at])
            found = next(dialog, None)
        body, expected = found
        self._count("message", await self.post(connection, "/predict", body), [expected])
        return dialog

    async def _hang_up(self, url: str, source: random.Random) -> None:
        connection = Connection(url)
        asked = asyncio.create_task(connection.post("/predict", source.choice(self._raw)))
        await asyncio.sleep(source.random() / 200)
        asked.cancel()
        await asyncio.wait([asked])
        await connection.close()
        self.answers["hung up"] += 1

    def _count(self, kind: str, reply: Reply, expected: list[float] | None = None, status: int = 200) -> None:
        self.answers[f"{kind} {reply.status}"] += 1
        self.lost += reply.status in (0, 500, 502, 503, 504)
        if reply.status == status and expected is None:
            return
        numbers = _numbers(reply.json) if reply.status == status else []
        near = expected is not None and len(numbers) == len(expected)
        near = near and all(abs(got - right) < TOLERANCE for got, right in zip(numbers, expected or [], strict=True))
        self.wrong += not near


def _numbers(answer: dict[str, Any]) -> list[float]:
    """Return all probabilities of an answer of any kind, in order."""
    if "is_bot_probability" in answer:
        return [answer["is_bot_probability"]]
    return [number for part in answer.get("predictions") or answer["participants"] for number in _numbers(part)]


def _sender_probabilities(classifier: Classifier, chat: Chat) -> Iterator[float]:
    """Yield the probability of each message's sender, given the chat up to that message."""
    for count in range(1, len(chat.messages) + 1):
        so_far = excerpt(chat, end=count)
        sender = so_far.messages[-1].participant_id
        sides = classifier.predict([so_far])[0].participants
        yield next(side.is_bot_probability for side in sides if side.participant_id == sender)


def _messages(body: dict[str, Any], expected: list[float]) -> Iterator[tuple[bytes, float]]:
    """Yield a chat's messages as those of a new dialog, each with its expected probability."""
    dialog = str(uuid4())
    for message, probability in zip(body["messages"], expected, strict=True):
        fields = {"text": message["text"], "dialog_id": dialog, "id": str(uuid4())}
        yield json.dumps({**fields, "participant_index": message["participant_id"]}).encode(), probability


async def soak(served: Server, minutes: int) -> bool:
    """Run the clients and print the results; returns whether no answer was wrong or lost and memory did not grow."""
    traffic = Traffic(seconds=60 * minutes)
    begin = traffic.deadline - 60 * minutes
    memory = [served.memory()]  # at the start, and at the end of each minute
    clients = [asyncio.create_task(traffic.client(served.url, seed)) for seed in range(CLIENTS)]
    is_served = True
    for minute in range(minutes):
        await asyncio.sleep(begin + 60 * minute + KILL_AT - time.monotonic())
        if minute == minutes // 2:
            shutil.rmtree(served.folder_of_metrics())
        os.kill(served.workers()[-1], signal.SIGKILL)
        await asyncio.sleep(begin + 60 * minute + 59 - time.monotonic())
        memory.append(served.memory())
        print(
            f"minute {minute + 1}: {sum(traffic.answers.values())} requests, {memory[-1] / 1e6:.0f} MB, "
            f"{len(served.workers())} workers, {traffic.wrong} wrong, {traffic.lost} lost, {traffic.cut_off} cut off",
            flush=True,
        )
        is_served &= (await asyncio.to_thread(send, f"{served.url}/metrics")).status == HTTPStatus.OK
    await asyncio.gather(*clients)
    print()
    for kind, count in sorted(traffic.answers.items()):
        print(f"{kind:24}{count:12,}")
    print(f"{'wrong answers':24}{traffic.wrong:12,}\n{'lost answers':24}{traffic.lost:12,}")
    print(f"{'cut off, sent again':24}{traffic.cut_off:12,} (at most {minutes * CLIENTS} by {minutes} kills)")
    for when, used in zip(
        ("at the start", "after the first minute", "at the end"), (*memory[:2], memory[-1]), strict=True
    ):
        print(f"memory {when}: {used / 1e6:.1f} MB")
    growth = memory[-1] / memory[1]
    print(f"memory at the end relative to the first minute: {growth:.3f} (at most {GROWTH})")
    is_right = not traffic.wrong and not traffic.lost and traffic.cut_off <= minutes * CLIENTS
    return is_right and is_served and growth <= GROWTH


def main() -> int:
    """Start a server, run the soak test, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=10, help="duration (default: 10)")
    minutes: int = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), WORKERS="2") as server:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            good = runner.run(soak(server, minutes))
        traces = server.log.read_text().count("Traceback")
        print(f"tracebacks in the log: {traces}")
    return 0 if good and not traces else 1


if __name__ == "__main__":
    sys.exit(main())
