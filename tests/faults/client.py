"""A client that asks on many connections at a time, and says what came of each request."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """Status (0: the connection broke), headers in lower case, body, and the seconds that it took."""

    status: int
    headers: dict[str, str]
    content: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class Connection:
    """One connection that is kept alive, and opened again when it has ended."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes, kind: str = "application/json") -> Reply:
        """POST a body; returns what came back."""
        begin = time.perf_counter()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
            content = await reader.readexactly(int(headers["content-length"]))
        except (OSError, asyncio.IncompleteReadError):
            await self.close()
            return Reply(0, {}, b"", time.perf_counter() - begin)
        if headers.get("connection") == "close":
            await self.close()
        return Reply(int(lines[0].split()[1]), headers, content, time.perf_counter() - begin)

    async def close(self) -> None:
        """Close it, in the middle of a request if there is one."""
        if self._streams:
            self._streams[1].close()
            with suppress(OSError):
                await self._streams[1].wait_closed()
        self._streams = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


Ask = Callable[[Connection], Awaitable[Reply]]


async def closed_loop(url: str, clients: int, seconds: float, ask: Ask) -> list[Reply]:
    """Let each of some clients ask again as soon as it is answered."""
    deadline = time.monotonic() + seconds
    replies: list[Reply] = []

    async def client() -> None:
        async with Connection(url) as connection:
            while time.monotonic() < deadline:
                replies.append(await ask(connection))

    await asyncio.gather(*(client() for _ in range(clients)))
    return replies


async def open_loop(url: str, rate: float, seconds: float, ask: Ask) -> list[Reply]:
    """Ask so many times a second, however many are not answered yet."""
    begin = time.monotonic()
    idle: list[Connection] = []
    replies: list[Reply] = []

    async def once() -> None:
        connection = idle.pop() if idle else Connection(url)
        replies.append(await ask(connection))
        idle.append(connection)

    async with asyncio.TaskGroup() as asked:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(begin + number / rate - time.monotonic())
            asked.create_task(once())
    for connection in idle:
        await connection.close()
    return replies


def long_chat(words: int, seed: int = 0) -> bytes:
    """Return a chat of so many words that the service has not seen; 10,000 take 0.1 s to score."""
    source = random.Random(seed)  # noqa: S311
    made = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(words)]
    texts = [" ".join(made[start : start + 1000]) for start in range(0, words, 1000)]
    messages = [{"message_id": at, "text": text, "participant_id": at % 2} for at, text in enumerate(texts)]
    return json.dumps({"chat_id": seed, "messages": messages}).encode()
