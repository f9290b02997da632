"""Connections: the head of a request has to be short, and to come soon, and an answer has to be read.

uvicorn limits none of it when it reads with httptools: one connection with a header that does not end takes all memory,
and connections that send or read nothing are kept for ever.
"""

import asyncio
from http import HTTPStatus

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import RefusedError

MAX_HEAD_BYTES = 65_536  # method, path and headers
HEAD_SECONDS = 30.0  # from the opening of a connection, or the first byte of a request, to the end of its head
READ_SECONDS = 30.0  # for an answer to be read


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with these bounds."""

    _progress = False  # whether what has arrived last held a part of a body, or the end of a head or a request
    _head_bytes = 0  # since then: of a head, of what follows a body in chunks, of what is no request at all
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start to wait for a request."""
        super().connection_made(transport)
        self._wait(True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        super().connection_lost(exc)
        self._wait(False)

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived; refuse what is too long, wait for what is not a whole head."""
        self._progress = False
        super().data_received(data)
        self._wait(not self._is_answering())
        self._head_bytes = 0 if self._progress else self._head_bytes + len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse()

    def on_headers_complete(self) -> None:
        """Note the end of a head."""
        super().on_headers_complete()
        self._progress = True

    def on_body(self, body: bytes) -> None:
        """Note a part of a body."""
        super().on_body(body)
        self._progress = True

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        super().on_message_complete()
        self._progress = True

    def on_response_complete(self) -> None:
        """Start to wait for the client to read the answer."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(READ_SECONDS, self._abort_unread)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self, waits: bool) -> None:
        if waits and self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        elif not waits and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abort_unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _refuse(self) -> None:
        if self._is_answering():
            self.transport.abort()
            return
        refused = RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the head is larger than {MAX_HEAD_BYTES}")
        refused.log("a request")
        response = refused.response()
        head = [f"HTTP/1.1 {refused.status.value} {refused.status.phrase}".encode(), b"connection: close"]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()


def bound_connections() -> None:
    """Let uvicorn use this protocol in this process, in place of the one that it would choose, and no WebSockets."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{BoundedProtocol.__name__}"
    uvicorn.config.WS_PROTOCOLS["auto"] = None
