"""A client for load tests: many connections at a time, and the outcome of every request."""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import Self

import aiohttp

from tests.conftest import Reply


class Connection:
    """One kept-alive connection, opened with the first request and again after it was closed.

    The client is aiohttp's: httpx takes so much time for a request that it would limit the load.
    """

    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=1))

    async def post(self, path: str, body: bytes) -> Reply:
        """POST a body; returns the answer, or a reply with status 0 if the connection failed."""
        try:
            async with self._session.post(path, data=body, headers={"Content-Type": "application/json"}) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, headers, await response.read())
        except (aiohttp.ClientError, OSError):
            return Reply(0, {}, b"")

    async def close(self) -> None:
        """Close it, in the middle of a request if there is one."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


Ask = Callable[[Connection], Awaitable[Reply]]


async def closed_loop(url: str, clients: int, seconds: float, ask: Ask) -> list[Reply]:
    """Send requests from a number of clients for some seconds, each the next one as soon as it has an answer."""
    deadline = time.monotonic() + seconds
    replies: list[Reply] = []

    async def client() -> None:
        async with Connection(url) as connection:
            while time.monotonic() < deadline:
                replies.append(await ask(connection))

    await asyncio.gather(*(client() for _ in range(clients)))
    return replies


def long_chat(words: int, seed: int = 0) -> bytes:
    """Return the body of a chat of made-up words, each with its own n-grams; 10,000 take 0.1 s to score."""
    source = random.Random(seed)  # noqa: S311
    made = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(words)]
    texts = [" ".join(made[start : start + 1000]) for start in range(0, words, 1000)]
    messages = [{"message_id": at, "text": text, "participant_id": at % 2} for at, text in enumerate(texts)]
    return json.dumps({"chat_id": seed, "messages": messages}).encode()
