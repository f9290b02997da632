"""What `serving/http` needs of uvicorn beyond its public interface.

If a test fails after an update of uvicorn, compare its new `httptools_impl.py` with `serving/http/connections.py`.
"""

import asyncio
import subprocess
import sys
from unittest.mock import Mock

import pytest
import uvicorn
from _bentoml_impl.worker.service import main as worker
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service import SETTINGS
from serving.http.connections import DEFAULT_KEEP_ALIVE, HttpProtocol

APP = PlainTextResponse("hello")
CHANGED = f"uvicorn {uvicorn.__version__} changed"
METHODS = ["connection_made", "connection_lost", "data_received", "on_headers_complete", "on_body"]
METHODS += ["on_message_complete", "pause_writing", "resume_writing", "shutdown", "_unset_keepalive_if_required"]
ATTRIBUTES = ["cycle", "headers", "loop", "parser", "pipeline", "server_state", "timeout_keep_alive", "url"]
CYCLE_ATTRIBUTES = ["disconnected", "keep_alive", "message_event", "more_body", "response_complete", "response_started"]


def test_uvicorn_takes_the_protocol_where_none_is_named() -> None:
    """As BentoML starts it; importing the service installs the protocol."""
    config = uvicorn.Config(APP)
    config.load()
    assert config.http_protocol_class is HttpProtocol, f"{CHANGED} how it looks up its protocol"
    assert HttpProtocol.keep_alive_seconds == SETTINGS.keep_alive_seconds


def test_the_default_timeout_of_idle_connections_is_known() -> None:
    assert uvicorn.Config(APP).timeout_keep_alive == DEFAULT_KEEP_ALIVE, f"{CHANGED} the default of timeout_keep_alive"
    of_bentoml = {option.name: option.default for option in worker.params}
    assert of_bentoml["timeout_keep_alive"] == DEFAULT_KEEP_ALIVE, "BentoML changed the default of timeout_keep_alive"


@pytest.mark.parametrize(("option", "kept"), [(DEFAULT_KEEP_ALIVE, SETTINGS.keep_alive_seconds), (20, 20)])
def test_uvicorns_own_option_comes_first_for_idle_connections(option: int, kept: int) -> None:
    config = uvicorn.Config(APP, timeout_keep_alive=option)
    assert HttpProtocol(config, ServerState(), {}, _loop=Mock()).timeout_keep_alive == kept


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
    await asyncio.gather(*protocol.tasks)
    protocol.shutdown()
    protocol.connection_lost(None)
    return protocol


def test_the_protocol_and_its_requests_have_what_is_used() -> None:
    for name in METHODS:
        assert hasattr(HttpToolsProtocol, name), f"{CHANGED} HttpToolsProtocol: it has no {name}"
    protocol = asyncio.run(exchange())
    for name in ATTRIBUTES:
        assert name in vars(protocol), f"{CHANGED} HttpToolsProtocol: it has no {name}"
    for name in CYCLE_ATTRIBUTES:
        assert name in vars(protocol.cycle), f"{CHANGED} RequestResponseCycle: it has no {name}"
    assert isinstance(protocol.cycle.message_event, asyncio.Event), f"{CHANGED} RequestResponseCycle.message_event"


SERVER = """
import signal, uvicorn

async def app(scope, receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            print(getattr(signal.getsignal(signal.SIGTERM), "__qualname__", None), flush=True)
            await send({"type": "lifespan.startup.failed"})
            return

uvicorn.run(app, port=0, log_level="critical")
"""


def test_the_server_handles_sigterm_before_the_app_starts() -> None:
    """`serving/http/shutdown.py` takes the place of its handler."""
    done = subprocess.run([sys.executable, "-c", SERVER], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "Server.handle_exit", f"{CHANGED} its handling of SIGTERM"
