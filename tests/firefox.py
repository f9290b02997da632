"""A headless Firefox, driven with WebDriver BiDi (https://w3c.github.io/webdriver-bidi/).

Playwright drives only a Firefox of its own; Debian's firefox-esr speaks BiDi itself.
"""

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from httpx_ws import WebSocketSession, connect_ws

from tests.conftest import find_firefox, wait_until

START = 60  # seconds until Firefox listens
LISTENING = re.compile(r"WebDriver BiDi listening on (\S+)\n")


class Firefox:
    """One tab. Methods raise AssertionError when a script on the page throws."""

    def __init__(self, socket: WebSocketSession) -> None:
        self._socket = socket
        self._sent = 0
        self.faults: list[str] = []
        self._send("session.new", capabilities={})
        self._send("session.subscribe", events=["log.entryAdded"])
        self._tab = self._send("browsingContext.getTree")["contexts"][0]["context"]

    def _send(self, method: str, **params: Any) -> Any:
        self._sent += 1
        self._socket.send_json({"id": self._sent, "method": method, "params": params})
        while True:
            message = self._socket.receive_json(timeout=START)
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.faults.append(str(message["params"]["text"]))
            if message.get("id") == self._sent:
                assert message["type"] == "success", message
                return message["result"]

    def open(self, url: str) -> None:
        self._send("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def evaluate(self, script: str) -> Any:
        """Evaluate an expression, wait for it if it is a promise, and return its JSON value."""
        result = self._send(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({script})) ?? 'null')()",
            target={"context": self._tab},
            awaitPromise=True,
        )
        assert result["type"] == "success", result["exceptionDetails"]["text"]
        return json.loads(result["result"]["value"])

    def wait_for(self, condition: str) -> Any:
        """Wait until an expression is true, also across a navigation, and return its value."""
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            with suppress(AssertionError):  # the page may be on its way out
                value = self.evaluate(condition)
                if value not in (None, False, "", 0):  # an element becomes {}
                    return value
            time.sleep(0.05)
        raise AssertionError(f"never {condition}")

    def write(self, element: str, text: str) -> None:
        """Put a text into an element by its id, as a keyboard or a paste does."""
        self.evaluate(f"document.getElementById({element!r}).focus()")
        self.evaluate(f"document.execCommand('insertText', false, {json.dumps(text)})")


@contextmanager
def opened_firefox() -> Iterator[Firefox]:
    """Start Firefox with a profile of its own, and end it."""
    program = find_firefox()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        command = [program, "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", folder]
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                wait_until(lambda: bool(LISTENING.search(log.read_text(errors="replace"))))
                [url] = LISTENING.findall(log.read_text(errors="replace"))
                socket: WebSocketSession
                with httpx.Client(trust_env=False) as client, connect_ws(f"{url}/session", client) as socket:
                    yield Firefox(socket)
            finally:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
                process.kill()
