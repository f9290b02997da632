"""Connections: the head of a request has to be short, and to come soon.

uvicorn limits neither when it reads with httptools: one connection with a header that does not end takes all memory,
and connections that send nothing are kept for ever.
"""

import asyncio
from http import HTTPStatus

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import RefusedError

MAX_HEAD_BYTES = 65_536  # method, path and headers
HEAD_SECONDS = 30.0  # from the opening of a connection, or the first byte of a request, to the end of its head


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these two bounds."""

    _in_head = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start to wait for a request."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        super().connection_lost(exc)
        self._wait(False)

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived; refuse a head that is too long."""
        super().data_received(data)
        self._wait(self._in_head)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse()

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Note that it has ended."""
        super().on_headers_complete()
        self._in_head = False

    def _wait(self, waits: bool) -> None:
        if waits and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)
        elif not waits and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self) -> None:
        refused = RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the head is larger than {MAX_HEAD_BYTES}")
        refused.log("a request")
        response = refused.response()
        head = [f"HTTP/1.1 {refused.status.value} {refused.status.phrase}".encode(), b"connection: close"]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()


def bound_connections() -> None:
    """Let uvicorn use this protocol in this process, in place of the one that it would choose."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"
