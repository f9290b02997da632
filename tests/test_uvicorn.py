"""What `serving/http/connections.py` needs of uvicorn beyond its public interface.

If a test fails after an update of uvicorn, compare its new `httptools_impl.py` with `serving/http/connections.py`.
"""

import asyncio
import inspect
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from serving.http.connections import DEFAULT_KEEP_ALIVE, HttpProtocol, install_protocol

APP = PlainTextResponse("hello")
CHANGED = f"uvicorn {uvicorn.__version__} changed"
METHODS = {
    "connection_made": "(self, transport: 'asyncio.Transport') -> 'None'",
    "connection_lost": "(self, exc: 'Exception | None') -> 'None'",
    "data_received": "(self, data: 'bytes') -> 'None'",
    "on_headers_complete": "(self) -> 'None'",
    "on_body": "(self, body: 'bytes') -> 'None'",
    "on_message_complete": "(self) -> 'None'",
    "pause_writing": "(self) -> 'None'",
    "resume_writing": "(self) -> 'None'",
    "shutdown": "(self) -> 'None'",
    "_unset_keepalive_if_required": "(self) -> 'None'",
}
ATTRIBUTES = [
    "cycle",
    "headers",
    "loop",
    "parser",
    "pipeline",
    "server_state",
    "timeout_keep_alive",
    "url",
]
CYCLE_ATTRIBUTES = ["disconnected", "keep_alive", "message_event", "more_body", "response_complete", "response_started"]


@pytest.fixture
def auto() -> Iterator[None]:
    before = HTTP_PROTOCOLS["auto"]
    yield
    HTTP_PROTOCOLS["auto"] = before


@pytest.mark.usefixtures("auto")
def test_uvicorn_takes_the_protocol_where_none_is_named() -> None:
    """As BentoML starts it."""
    install_protocol(75)
    config = uvicorn.Config(APP)
    config.load()
    assert config.http_protocol_class is HttpProtocol, f"{CHANGED} how it looks up its protocol"
    assert HttpProtocol.keep_alive_seconds == 75


def test_the_default_timeout_of_idle_connections_is_known() -> None:
    assert uvicorn.Config(APP).timeout_keep_alive == DEFAULT_KEEP_ALIVE, f"{CHANGED} the default of timeout_keep_alive"


@pytest.mark.parametrize("name", list(METHODS))
def test_the_protocol_has_the_methods_that_are_used(name: str) -> None:
    method = getattr(HttpToolsProtocol, name, None)
    assert method is not None, f"{CHANGED} HttpToolsProtocol: it has no {name}"
    assert str(inspect.signature(method)) == METHODS[name], f"{CHANGED} HttpToolsProtocol.{name}"


async def exchange() -> HttpToolsProtocol:
    """Take a request in pieces, and end the connection; returns uvicorn's protocol."""
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    transport.is_closing.return_value = False
    config = uvicorn.Config(APP, http=HttpToolsProtocol)
    protocol = HttpToolsProtocol(config, ServerState(), {})
    protocol.connection_made(transport)
    protocol.data_received(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
    protocol.data_received(b"x" * 100_000)
    await asyncio.sleep(0.1)
    protocol.shutdown()
    protocol.connection_lost(None)
    return protocol


def test_the_protocol_and_its_requests_have_the_attributes_that_are_used() -> None:
    protocol = asyncio.run(exchange())
    for name in ATTRIBUTES:
        assert name in vars(protocol), f"{CHANGED} HttpToolsProtocol: it has no {name}"
    for name in CYCLE_ATTRIBUTES:
        assert name in vars(protocol.cycle), f"{CHANGED} RequestResponseCycle: it has no {name}"
    assert isinstance(protocol.cycle.message_event, asyncio.Event), f"{CHANGED} RequestResponseCycle.message_event"
