"""What `serving/http` needs of uvicorn beyond its public interface.

If a test fails after an update of uvicorn, compare its new `httptools_impl.py` with `serving/http/connections.py`.
"""

import asyncio
import subprocess
import sys
from unittest.mock import Mock

import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service import SETTINGS
from serving.http.connections import HttpProtocol

APP = PlainTextResponse("hello")
CHANGED = f"uvicorn {uvicorn.__version__} changed"
METHODS = ["connection_made", "connection_lost", "data_received", "on_headers_complete", "on_body"]
METHODS += ["on_message_complete", "pause_writing", "resume_writing", "shutdown", "_unset_keepalive_if_required"]
ATTRIBUTES = ["cycle", "headers", "loop", "parser", "server_state", "timeout_keep_alive", "url"]
CYCLE_ATTRIBUTES = ["keep_alive", "response_complete", "response_started"]


def test_uvicorn_takes_the_protocol_where_none_is_named() -> None:
    """As BentoML starts it; importing the service installs the protocol."""
    config = uvicorn.Config(APP)
    config.load()
    assert config.http_protocol_class is HttpProtocol, f"{CHANGED} how it looks up its protocol"
    assert HttpProtocol.keep_alive_seconds == SETTINGS.keep_alive_seconds


async def exchange() -> HttpToolsProtocol:
    """Take the head of a request, and end the connection; returns uvicorn's protocol."""
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    protocol = HttpToolsProtocol(uvicorn.Config(APP, http=HttpToolsProtocol), ServerState(), {})
    protocol.connection_made(transport)
    protocol.data_received(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)
    return protocol


def test_the_protocol_and_its_requests_have_what_is_used() -> None:
    protocol = asyncio.run(exchange())
    missing = {name for name in METHODS if not hasattr(HttpToolsProtocol, name)}
    missing |= {*ATTRIBUTES} - vars(protocol).keys()
    missing |= {*CYCLE_ATTRIBUTES} - vars(protocol.cycle).keys()
    assert not missing, f"{CHANGED} HttpToolsProtocol or RequestResponseCycle"


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
