"""HTTP connections: what uvicorn's own protocol lacks, and which client or report needs it.

- An offered upgrade is ignored, as RFC 9110, section 7.8, allows: Java's HttpClient and `curl --http2` offer h2c with
  every first request, and uvicorn drops the body that comes with it.
- An error that is sent before the body has arrived reaches the client (a lingering close, as in nginx): urllib and ab
  write all of a body before they read, and would see a reset connection instead of 413.
- Idle connections are kept longer than load balancers keep theirs (60 s by default in nginx and at AWS): if the server
  closes first, the next request may already be on its way, and the load balancer answers 502.
- The head of a request is limited in size and in time, and so is the time for reading a response: slowloris and its
  kin would hold connections for ever.
- Request smuggling: two `Host` headers and any transfer coding but `chunked` are rejected, and the fields of a trailer
  do not become headers (RFC 9112, sections 3.2, 6.1 and 7.1.2).
- What is not HTTP, such as TLS on this port, gets 400 in the shape of `serving/errors.py`.

This module and `shutdown.py` rely on uvicorn's internals, which `tests/test_private_parts.py` lists: this one on the
registry `uvicorn.config.HTTP_PROTOCOLS`, and on methods and attributes of `HttpToolsProtocol` and its requests. BentoML
starts uvicorn itself, and has no option for the protocol.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import httptools
import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import MAX_HEAD_BYTES, Problem, RefusedError
from serving.http.bodies import to_response
from serving.http.request_id import header_of, id_of
from serving.log import set_request_id

WAIT_SECONDS = 30.0  # for a client to send a head, to catch up with a response, and to close; nginx's lingering_time
MAX_DISCARDED_BYTES = 32 * 2**20  # of the rest of a request that has already been answered


class LingeringTransport:
    """A transport that closes the way nginx does when the client is still sending: a lingering close.

    If a socket with unread data is closed, TCP resets the connection, and the client may lose the response that it has
    not read yet. So `close()` ends the stream of the response only. What still arrives is read and discarded until the
    client closes the connection as well, or `WAIT_SECONDS` or `MAX_DISCARDED_BYTES` is reached. `on_close` is called
    once the transport is closing.
    """

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[], None]) -> None:
        self.request_incomplete = False  # whether the client is still sending
        self.discards = False  # whether what arrives is to be handed to `discard`, not to the parser
        self._transport = transport
        self._on_close = on_close
        self._discarded = 0  # bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, unless the transport has been closed, which uvicorn does not tell every request of a pipeline."""
        if not self.is_closing():
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Tell whether the transport has been closed."""
        return self.discards or self._transport.is_closing()

    def close(self) -> None:
        """Close after all that has been written, with a lingering close if the client is still sending."""
        if self.is_closing():
            return
        if self.request_incomplete:
            self.discards = True
            if self._transport.can_write_eof():  # not with TLS
                self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()
        self._on_close()

    def discard(self, size: int) -> None:
        """Count `size` bytes that have arrived and were thrown away."""
        self._discarded += size
        if self._discarded > MAX_DISCARDED_BYTES:
            self._transport.abort()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the rules of this module."""

    keep_alive_seconds: ClassVar[int] = 75

    _transport: LingeringTransport
    _timer: asyncio.TimerHandle | None = None
    _awaits_head = True  # from the opening of the connection, or the first byte of a request, to the end of its head
    _head_bytes = 0  # received since the last end of a head, part of a body, or end of a request
    _may_keep_alive = False  # what the client and `shutdown` say; `cycle.keep_alive` is what the response will say
    _refused: RefusedError | None = None  # what is wrong with a head that can be parsed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first head."""
        self.timeout_keep_alive = self.keep_alive_seconds
        self._transport = LingeringTransport(transport, self._watch)
        super().connection_made(cast(asyncio.Transport, self._transport))
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; reject what is not HTTP or has too long a head."""
        if self._transport.is_closing():
            self._transport.discard(len(data))
            return
        self._unset_keepalive_if_required()
        self._head_bytes += len(data)
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self._reject(self._refused or RefusedError(Problem.NOT_HTTP))
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self._reject(RefusedError(Problem.HEAD_TOO_LARGE, limit=MAX_HEAD_BYTES))
        self._awaits_head = not self._is_responding()
        self._watch()

    def on_headers_complete(self) -> None:
        """Let the app answer. A response that begins before the request is complete will say `Connection: close`."""
        if self.parser.should_upgrade():
            return  # the parser stops after this head, and `_parse` gives it the head once more, without the offer
        self._refused = self._check_head()
        if self._refused:
            raise httptools.HttpParserError
        super().on_headers_complete()
        self.headers = []  # a trailer's fields are not added to the headers that the app reads
        self._head_bytes = 0
        self._transport.request_incomplete = True
        self._may_keep_alive = self.cycle.keep_alive
        self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Note that the head is over."""
        super().on_body(body)
        self._head_bytes = 0

    def on_message_complete(self) -> None:
        """Keep the connection after the response, unless that has already begun."""
        if self.parser.should_upgrade():
            return  # as above: the parser calls this after a head that it does not go on from
        super().on_message_complete()
        self._head_bytes = 0
        self._transport.request_incomplete = False
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._may_keep_alive

    def pause_writing(self) -> None:
        """Wait for the client to read what has been written so far."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Go on with the response."""
        super().resume_writing()
        self._watch()

    def shutdown(self) -> None:
        """Close the connection, after the response if there is one to come."""
        self._may_keep_alive = False
        super().shutdown()

    def _watch(self) -> None:
        """Let the timeout run while the client has something to do: send a head, read a response, or close."""
        waits = self._awaits_head or self.flow.write_paused or self._transport.is_closing()
        if waits and self._timer is None:
            self._timer = self.loop.call_later(WAIT_SECONDS, self._transport.abort)
        elif not waits and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_head(self) -> RefusedError | None:
        if len(self.url) + sum([len(name) + len(value) for name, value in self.headers]) > MAX_HEAD_BYTES:
            return RefusedError(Problem.HEAD_TOO_LARGE, limit=MAX_HEAD_BYTES)
        names = [name for name, _ in self.headers]
        if names.count(b"host") > 1:
            return RefusedError(Problem.NOT_HTTP)
        codings = [value.strip(b" \t").lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            return RefusedError(Problem.TRANSFER_CODING)
        return None

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _parse(self, data: memoryview) -> None:
        """Parse data; a head that offers an upgrade is parsed once more without the offer. Raises `HttpParserError`.

        After a head with such an offer the parser leaves the rest of the connection to the other protocol.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offered:
                data = data[offered.args[0] :]
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("CONNECT is for proxies")
            head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
            head += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            self.parser.feed_data(b"\r\n".join([*head, b"", b""]))

    def _reject(self, refused: RefusedError) -> None:
        """Answer what cannot be parsed with an error, and close the connection.

        If a request is being answered, the client would take the error for that answer: the connection just ends.
        """
        if self._is_responding():
            self._transport.abort()
            return
        request_id = id_of(self.headers or [])
        set_request_id(request_id)
        refused.log()
        response = to_response(refused)
        head = [f"HTTP/1.1 {refused.status.value} {refused.status.phrase}".encode(), b"connection: close"]
        headers = [*self.server_state.default_headers, header_of(request_id), *response.raw_headers]
        head += [name + b": " + value for name, value in headers]
        self._transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self._transport.request_incomplete = True
        self._transport.close()


def install_protocol(keep_alive_seconds: int) -> None:
    """Let uvicorn use `HttpProtocol` in this process, and keep idle connections for `keep_alive_seconds`."""
    HttpProtocol.keep_alive_seconds = keep_alive_seconds
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{HttpProtocol.__name__}"
