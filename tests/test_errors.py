"""The vocabulary of errors: each is provoked over HTTP, and the table in the reference lists them all."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.errors import Problem
from tests.conftest import CURL_CHAT, ROOT, Server, running, start_server, wait_until
from tests.faults.client import long_chat
from tests.test_bentoml_users import config
from tests.wire import Response, exchange

KEY = "Authorization: Bearer key"
MESSAGE = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    length = [f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *headers, *length, "", ""]).encode() + body


def post(body: object, *headers: str, path: str = "/predict") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(f"POST {path}", KEY, "Content-Type: application/json", *headers, body=content)


def full_dialog() -> list[bytes]:
    """Return messages of four bytes for each character; the last one is beyond the limit of a dialog."""
    of_dialog = {**MESSAGE, "dialog_id": "full", "text": "\N{ROBOT FACE}" * 8_000}
    return [post({**of_dialog, "id": f"full-{number}"}) for number in range(32)]


# For each error the requests that lead to it, sent one after the other, and headers that its response has to have.
REQUESTS: dict[Problem, tuple[list[bytes], dict[str, str]]] = {
    Problem.INVALID: ([post(b"{")], {}),
    Problem.BAD_GZIP: ([post(b"x", "Content-Encoding: gzip")], {}),
    Problem.NOT_HTTP: ([b"nonsense\r\n\r\n"], {"connection": "close"}),
    Problem.PREFLIGHT: ([request("OPTIONS /predict", "Origin: https://b", "Access-Control-Request-Method: POST")], {}),
    Problem.NO_KEY: ([request("GET /metrics")], {"www-authenticate": "Bearer"}),
    Problem.NO_PATH: ([request("GET /nothing")], {}),
    Problem.METHOD: ([request("GET /predict", KEY)], {"allow": "POST"}),
    Problem.BODY_TIMEOUT: ([request("POST /predict", KEY, "Content-Type: application/json", "Content-Length: 9")], {}),
    Problem.CONFLICT: ([post(MESSAGE), post({**MESSAGE, "text": "other"})], {}),
    Problem.BODY_TOO_LARGE: ([post(b" " * 2_000_000)], {"connection": "close"}),
    Problem.DIALOG_FULL: (full_dialog(), {}),
    Problem.NOT_JSON: (
        [request("POST /predict", KEY, "Content-Type: text/plain", body=b"{}")],
        {"accept": "application/json"},
    ),
    Problem.CODING: ([post(b"x", "Content-Encoding: br")], {"accept-encoding": "gzip"}),
    Problem.RANGE: (
        [request("GET /static_content/swagger-ui.css", KEY, "Range: bytes=999999999-")],
        {"content-range": r"(bytes )?\*/\d+"},
    ),
    Problem.HEAD_TOO_LARGE: ([request("GET /", f"X: {'y' * 70_000}")], {"connection": "close"}),
    Problem.TRANSFER_CODING: ([request("POST /predict", KEY, "Transfer-Encoding: gzip")], {"connection": "close"}),
    Problem.TIMEOUT: ([post(long_chat(60_000), path="/explain")], {"retry-after": "1"}),
    Problem.OVERLOADED: ([post(CURL_CHAT)], {"retry-after": "1"}),
    Problem.STORE_DOWN: ([post(MESSAGE)], {"retry-after": "1"}),
    Problem.NOT_READY: ([request("GET /readyz")], {"retry-after": "1"}),
}
# Their tests: test_log.py; faults/test_machine.py; faults/test_store.py, with a database in LATIN1.
OTHERS = {Problem.CUT_OFF, Problem.INTERNAL, Problem.UNSTORABLE}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server that answers one request at a time, within a second."""
    folder = tmp_path_factory.mktemp("strict")
    limits = config(folder, traffic={"timeout": 1, "max_concurrency": 1})
    with running(folder, WORKERS="1", API_KEYS="key", CORS_ORIGINS="https://a", BENTOML_CONFIG=limits) as server:
        yield server


@pytest.fixture(scope="module")
def without_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server whose store does not answer."""
    folder = tmp_path_factory.mktemp("without_store")
    server = start_server(folder, WORKERS="1", API_KEYS="key", HISTORY_URL="postgresql://u:p@127.0.0.1:1/d")
    try:
        wait_until(lambda: "Completed async startup hook" in server.log.read_text())
        yield server
    finally:
        server.process.terminate()
        server.process.wait(timeout=20)


def ask_while_busy(url: str, content: bytes) -> Response:
    """Send a request again and again beside long ones; returns the first response other than 200, or the last one."""
    with ThreadPoolExecutor(1) as other:
        for _ in range(10):
            long = other.submit(exchange, url, post(long_chat(60_000), path="/explain"))
            while (answer := exchange(url, content)).status == 200 and not long.done():
                pass
            if answer.status != 200:
                break
    return answer


@pytest.mark.service
@pytest.mark.parametrize("problem", REQUESTS, ids=lambda problem: problem.name)
def test_each_error_has_its_status_text_and_headers(request: pytest.FixtureRequest, problem: Problem) -> None:
    needs_no_store = problem in (Problem.STORE_DOWN, Problem.NOT_READY)
    server: Server = request.getfixturevalue("without_store" if needs_no_store else "strict")
    requests, headers = REQUESTS[problem]
    ask = ask_while_busy if problem is Problem.OVERLOADED else exchange
    *before, answer = [ask(server.url, content) for content in requests]
    assert [one.status for one in before] == [200] * len(before)
    assert answer.status == problem.status
    body = json.loads(answer.body)
    assert body.keys() == {"error", "detail"}
    assert re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(problem.text)), body["error"])
    for name, value in headers.items():
        assert re.fullmatch(value, answer.headers[name]), name


def test_every_error_is_provoked() -> None:
    assert set(Problem) - set(REQUESTS) == OTHERS


def test_the_reference_lists_every_error() -> None:
    section = (ROOT / "docs/reference.md").read_text().partition("## Errors")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| (\d+) \| `(.+)` \| (.+) \|$", section, re.MULTILINE)
    shown = [(str(one.status.value), re.sub(r"{\w+}", "…", one.text), one.cause) for one in Problem]
    assert listed == shown
