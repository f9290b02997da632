"""HTTP on a socket, byte by byte where a test needs it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import parse_headers
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import uvicorn

from serving.http.connections import HttpProtocol
from tests.conftest import Reply, free_port

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def read_response(stream: BinaryIO) -> Reply:
    """Read one response with a Content-Length; raises ConnectionError where the connection ends before it."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the connection ended before a response")
    headers = {name.lower(): value for name, value in parse_headers(stream).items()}
    length = int(headers.get("content-length", 0))
    body = stream.read(length)
    if len(body) < length:
        raise ConnectionError("the response broke off")
    return Reply(int(line.split()[1]), headers, body)


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request, for example to `GET /`."""
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *headers, *length, "", ""]).encode() + body


def exchange(url: str, sent: bytes) -> Reply:
    """Send bytes on a new connection to the host of a URL; returns the response."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as client, client.makefile("rb") as got:
        client.sendall(sent)
        return read_response(got)


def sent_before_the_end(client: socket.socket, first: bytes, more: bytes) -> int:
    """Send up to 240 MB; returns how many bytes the kernel took before the server closed the connection."""
    sent = 0
    try:
        client.sendall(first)
        for _ in range(4_000):
            client.sendall(more)
            sent += len(more)
    except OSError:
        pass
    return sent


@dataclass(frozen=True)
class Uvicorn:
    """uvicorn in a thread of the test."""

    port: int
    server: uvicorn.Server

    @contextmanager
    def connect(self) -> Iterator[tuple[socket.socket, BinaryIO]]:
        """Open a connection; yields it, and a stream to read from it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client, client.makefile("rb") as stream:
            yield client, stream

    def connections(self) -> int:
        """Return how many connections the server holds."""
        return len(self.server.server_state.connections)

    def tasks(self) -> int:
        """Return how many requests the app is answering."""
        return len(self.server.server_state.tasks)


@contextmanager
def serving(app: Callable[..., Any], **options: Any) -> Iterator[Uvicorn]:
    """Serve an ASGI app with uvicorn and the protocol, in a thread."""
    port = free_port()
    config = uvicorn.Config(
        app, port=port, http=HttpProtocol, lifespan="off", log_level="error", server_header=False, **options
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Uvicorn(port, server)
    finally:
        server.should_exit = True
        thread.join()
