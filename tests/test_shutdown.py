"""What `serving/http/shutdown.py` assumes about uvicorn."""

import subprocess
import sys
from importlib.metadata import version

APP = """
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
    done = subprocess.run([sys.executable, "-c", APP], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.strip() == "Server.handle_exit", f"uvicorn {version('uvicorn')} changed its handling of SIGTERM"
