"""HTTP connections: the timeouts, limits and closing rules that uvicorn's own protocol lacks.

- The head of a request is limited in size (`MAX_HEAD_BYTES`) and in time (`HEAD_SECONDS`).
- A response has to be read within `READ_SECONDS`.
- Idle connections are kept longer than load balancers keep theirs (60 s by default in nginx and at AWS): if the server
  closes first, the next request may already be on its way, and the load balancer answers 502.
- A response that is sent before the request body has arrived ends the connection, with a lingering close.
- An offered upgrade (h2c, WebSocket) is ignored, as RFC 9110, section 7.8, allows, and so are the fields of a trailer
  (section 6.5.1).
- What is not HTTP gets 400, in the shape of `serving/errors.py`. If earlier requests are still to be answered, their
  responses are sent and the connection is closed.
- A client that closes its side after a request (a half-close) gets the response.

This module and `serving/http/shutdown.py` rely on uvicorn's internals. This one uses the registry
`uvicorn.config.HTTP_PROTOCOLS`, and methods and attributes of `HttpToolsProtocol` and its `RequestResponseCycle`, which
`tests/test_uvicorn.py` lists. There is no public way: BentoML starts uvicorn itself, and has no option for the
protocol. It has one for idle connections (`bentoml serve --timeout-keep-alive`, which is honoured), but no environment
variable or setting that would hold for the container as well.
"""

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar, cast

import httptools
import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.errors import RefusedError
from serving.http.responses import to_response

MAX_HEAD_BYTES = 65_536  # request line and headers; also chunk extensions and trailers
HEAD_SECONDS = 30.0  # from the opening of the connection, or from the first byte of a request, to the end of its head
READ_SECONDS = 30.0  # for the client to read a response
LINGER_SECONDS = 30.0  # nginx's lingering_time: for the rest of a request that has already been answered
LINGER_STALL_SECONDS = 5.0  # nginx's lingering_timeout: until the next part of this rest
MAX_DISCARDED_BYTES = 32 * 2**20  # of this rest
HOST = re.compile(rb"[\w.~!$&'()*+,;=:%\[\]-]*")  # RFC 3986, section 3.2.2, with a port
DEFAULT_KEEP_ALIVE = 5  # seconds; uvicorn's and BentoML's default, which stands for "not set"


class Timeout:
    """A timeout that costs next to nothing to start and to stop.

    Each request starts and stops it, and hardly any lets it expire. So the timer of the event loop is left alone: when
    it fires, it looks at the deadline, and waits again if that has moved. `on_expiry` must not refer to the owner of
    the timeout, or it takes the garbage collector to free both.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry = on_expiry
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has been started, and neither stopped nor expired."""
        return self._deadline is not None

    def start(self, seconds: float) -> None:
        """Start it, or start it again; `seconds` is always the same."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._check)

    def stop(self) -> None:
        """Stop it."""
        self._deadline = None

    def cancel(self) -> None:
        """Stop it, and remove its timer from the event loop."""
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._check)
            return
        self._deadline = None
        self._on_expiry()


class LingeringTransport:
    """A transport that closes the way nginx does when the client is still sending: a lingering close.

    If a socket with unread data is closed, TCP resets the connection, and the client may lose the response that it has
    not read yet. So `close()` ends the stream of the response only. What still arrives is read and discarded until the
    client closes the connection as well, or `LINGER_SECONDS`, `LINGER_STALL_SECONDS` or `MAX_DISCARDED_BYTES` is
    reached.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.request_incomplete = False  # whether the client is still sending
        self.discards = False  # whether what arrives is to be handed to `discard`, not to the parser
        self.write = transport.write
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.abort = transport.abort
        self.can_write_eof = transport.can_write_eof  # not with TLS
        self._transport = transport
        self._loop = loop
        self._discarded = 0  # bytes
        self._linger_until: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def is_closing(self) -> bool:
        """Tell whether the transport has been closed; nothing may be written after that."""
        return self._linger_until is not None or self._transport.is_closing()

    def close(self) -> None:
        """Close after all that has been written, with a lingering close if the client is still sending."""
        if self.is_closing():
            return
        if not self.request_incomplete:
            self._transport.close()
            return
        self.discards = True
        self._linger_until = self._loop.time() + LINGER_SECONDS
        if self.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self.discard(0)

    def discard(self, size: int) -> None:
        """Count `size` bytes that have arrived and were thrown away."""
        self._discarded += size
        if self._discarded > MAX_DISCARDED_BYTES:
            self._transport.abort()
        elif self._linger_until is not None:
            self.cancel_timer()
            end = min(self._loop.time() + LINGER_STALL_SECONDS, self._linger_until)
            self._timer = self._loop.call_at(end, self._transport.abort)

    def cancel_timer(self) -> None:
        """Stop waiting for the client; the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abort_unless_read(self) -> None:
        """Abort the connection if the client has not read all that was sent."""
        if self._transport.get_write_buffer_size():
            self._transport.abort()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the rules of this module."""

    keep_alive_seconds: ClassVar[float] = 75.0

    _transport: LingeringTransport
    _head_timeout: Timeout
    _read_timeout: Timeout
    _head_bytes = 0  # received since the last end of a head, part of a body, or end of a request
    _progress = False  # whether the data being parsed contain one of these
    _may_keep_alive = False  # whether the connection may be kept once the request is complete
    _refused: RefusedError | None = None  # what is wrong with a head that can be parsed
    _running: RequestResponseCycle  # the request that the app answers; `cycle` is the last one received

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if self.timeout_keep_alive == DEFAULT_KEEP_ALIVE:  # `bentoml serve --timeout-keep-alive` was not used
            self.timeout_keep_alive = self.keep_alive_seconds  # type: ignore[assignment]  # call_later takes a float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the timeout of the first head."""
        self._transport = LingeringTransport(transport, self.loop)
        self._head_timeout = Timeout(self.loop, self._transport.abort)
        self._read_timeout = Timeout(self.loop, self._transport.abort_unless_read)
        super().connection_made(cast(asyncio.Transport, self._transport))
        self._head_timeout.start(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timeouts."""
        super().connection_lost(exc)
        if self.cycle is not None and not self._running.response_complete:  # uvicorn tells only the last request
            self._running.disconnected = True
            self._running.message_event.set()
        self.pipeline.clear()
        self._transport.cancel_timer()
        self._head_timeout.cancel()
        self._read_timeout.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; reject what is not HTTP or has too long a head."""
        if self._transport.discards:
            self._transport.discard(len(data))
            return
        self._unset_keepalive_if_required()
        self._progress = False
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offered:
                self._ignore_upgrades(memoryview(data)[offered.args[0] :])
        except httptools.HttpParserError:
            self._reject(self._refused or _not_http())
            return
        self._head_bytes = 0 if self._progress else self._head_bytes + len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._reject(_head_too_large())
        elif self._is_responding():
            self._head_timeout.stop()
            if not self.flow.write_paused:
                self._read_timeout.stop()
        elif not self._head_timeout.is_running:
            self._head_timeout.start(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """Start the response; unless the request is complete by then, its header will say `Connection: close`."""
        if self.parser.should_upgrade():
            return  # `_ignore_upgrades` has this head parsed once more, without the offer
        self._refused = self._check_head()
        if self._refused:
            raise httptools.HttpParserError
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110, section 10.1.1
        super().on_headers_complete()
        self.headers = []  # what follows the body is not added to the headers that the app reads
        self._progress = True
        self._transport.request_incomplete = True
        self._may_keep_alive, self.cycle.keep_alive = self.cycle.keep_alive, False

    def on_body(self, body: bytes) -> None:
        """Note the progress."""
        super().on_body(body)
        self._progress = True

    def on_message_complete(self) -> None:
        """Keep the connection after the response, unless that has already begun."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._progress = True
        self._transport.request_incomplete = False
        if not self.cycle.response_started:  # a trailer may have said `Connection: close`, which the parser obeys
            self.cycle.keep_alive = self._may_keep_alive and self.parser.should_keep_alive()

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it
        """Keep a connection whose client has closed its side until the last complete request is answered."""
        self._drop_waiting_request()
        if not self._is_responding() or self.cycle.more_body or not self._transport.can_write_eof():
            return False
        self.cycle.keep_alive = self._transport.request_incomplete = False
        return True

    def on_response_complete(self) -> None:
        """Wait for the client to read the response."""
        super().on_response_complete()
        if not self._is_responding():
            self._read_timeout.start(READ_SECONDS)

    def pause_writing(self) -> None:
        """Wait for the client to read what has been written so far."""
        super().pause_writing()
        self._read_timeout.start(READ_SECONDS)

    def resume_writing(self) -> None:
        """Go on with the response; after its end the client still has to read the rest."""
        super().resume_writing()
        if self._is_responding():
            self._read_timeout.stop()

    def shutdown(self) -> None:
        """Close the connection, after the response if there is one to come."""
        self._may_keep_alive = False
        super().shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _check_head(self) -> RefusedError | None:
        if len(self.url) + sum([len(name) + len(value) for name, value in self.headers]) > MAX_HEAD_BYTES:
            return _head_too_large()
        hosts = [value.strip(b" \t") for name, value in self.headers if name == b"host"]
        codings = [value.strip(b" \t").lower() for name, value in self.headers if name == b"transfer-encoding"]
        if len(hosts) > 1 or not all(map(HOST.fullmatch, hosts)):  # RFC 9112, section 3.2; none is tolerated
            return _not_http()
        if codings not in ([], [b"chunked"]):  # RFC 9112, section 6.1
            return RefusedError(HTTPStatus.NOT_IMPLEMENTED, "the only transfer coding is chunked")
        return None

    def _drop_waiting_request(self) -> None:
        """Drop the last request if it is incomplete and waits for the responses to earlier ones."""
        if self.pipeline and self.cycle.more_body:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _ignore_upgrades(self, rest: memoryview) -> None:
        """Parse the current head without its offer to upgrade, then the rest of the data; raises `HttpParserError`.

        After a head with such an offer the parser leaves the rest of the connection to the other protocol.
        """
        while True:
            method = self.parser.get_method()
            if method == b"CONNECT":
                raise httptools.HttpParserError("CONNECT is for proxies")
            head = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
            head += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            self.parser.feed_data(b"\r\n".join([*head, b"", b""]))
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offered:
                rest = rest[offered.args[0] :]

    def _reject(self, refused: RefusedError) -> None:
        """Answer with an error what cannot be parsed, and close the connection."""
        self._transport.discards = self._transport.request_incomplete = True
        self._head_timeout.stop()
        self._drop_waiting_request()
        if self._is_responding() and self.cycle.more_body:  # the fault is in the body of the current request
            if self.cycle.response_started:
                self._transport.abort()
                return
            self.cycle.disconnected = True  # tells the app, which logs it, that the rest of the body will not come
            self.cycle.message_event.set()
        else:
            refused.log("a request")
            if self._is_responding():  # to an earlier request; its response comes first, and is the last one
                self.cycle.keep_alive = False
                return
        response = to_response(refused)
        head = [f"HTTP/1.1 {refused.status.value} {refused.status.phrase}".encode(), b"connection: close"]
        headers = [*self.server_state.default_headers, *response.raw_headers]
        head += [name + b": " + value for name, value in headers]
        self._transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self._transport.close()


def _head_too_large() -> RefusedError:
    error = f"the head is larger than {MAX_HEAD_BYTES} bytes"
    return RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, error)


def _not_http() -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, "the request is not valid HTTP")


def install_protocol(keep_alive_seconds: float) -> None:
    """Let uvicorn use `HttpProtocol` in this process, and keep idle connections for `keep_alive_seconds`."""
    HttpProtocol.keep_alive_seconds = keep_alive_seconds
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{HttpProtocol.__name__}"
