"""The vocabulary of errors: each is provoked over HTTP, and the table in the reference lists them all."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.errors import Problem
from tests.conftest import CURL_CHAT, ROOT, Reply, Server, config, running, start_server, wait_until
from tests.faults.client import long_chat
from tests.wire import exchange, request

KEY = "Authorization: Bearer key"
MESSAGE = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}


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
    Problem.NOT_HTTP: ([request("GET /", "Host: b")], {"connection": "close"}),
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
# Their tests: below; faults/test_machine.py; faults/test_store.py, with a database in LATIN1.
OTHERS = {Problem.CUT_OFF, Problem.INTERNAL, Problem.UNSTORABLE}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server that BentoML's own configuration lets answer one request at a time, within a second."""
    folder = tmp_path_factory.mktemp("strict")
    cors = {"enabled": True, "access_control_allow_origins": ["https://a"]}
    limits = config(folder, workers=1, traffic={"timeout": 1, "max_concurrency": 1}, http={"cors": cors})
    with running(folder, API_KEYS="key", BENTOML_CONFIG=limits) as server:
        yield server


@pytest.fixture(scope="module")
def without_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server whose store does not answer, and whose metrics and docs are open."""
    folder = tmp_path_factory.mktemp("without_store")
    settings = {"API_KEYS": "key", "OPEN_METRICS_AND_DOCS": "true", "HISTORY_URL": "postgresql://u:p@127.0.0.1:1/d"}
    server = start_server(folder, WORKERS="1", **settings)
    try:
        wait_until(lambda: "Completed async startup hook" in server.log.read_text())
        yield server
    finally:
        server.process.terminate()
        server.process.wait(timeout=20)


def ask_while_busy(url: str, content: bytes) -> Reply:
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
def test_each_error_has_its_status_text_headers_and_line(request: pytest.FixtureRequest, problem: Problem) -> None:
    """All errors 429 of a second share one line."""
    needs_no_store = problem in (Problem.STORE_DOWN, Problem.NOT_READY)
    server: Server = request.getfixturevalue("without_store" if needs_no_store else "strict")
    (*before, last), headers = REQUESTS[problem]
    assert {exchange(server.url, content).status for content in before} <= {200}
    ask = ask_while_busy if problem is Problem.OVERLOADED else exchange
    answer = ask(server.url, last.replace(b"\r\n", f"\r\nX-Request-ID: {problem.name}\r\n".encode(), 1))
    assert (answer.status, answer.headers["x-request-id"]) == (problem.status, problem.name)
    assert answer.json.keys() == {"error", "detail"}
    assert re.fullmatch(re.sub(r"\\\{\w+\\\}", ".+", re.escape(problem.text)), answer.json["error"])
    for name, value in headers.items():
        assert re.fullmatch(value, answer.headers[name]), name
    line = rf"\[WARNING\].* {problem.status}: {re.escape(answer.json['error'])}.*\(request_id={problem.name}\)$"
    if problem is Problem.OVERLOADED:
        line = r"\[WARNING\].* 429: .*"
    wait_until(lambda: re.search(line, server.log.read_text(), re.MULTILINE) is not None)
    (found,) = re.findall(line, server.log.read_text(), re.MULTILINE)
    assert problem is not Problem.OVERLOADED or found.endswith(f"429: {problem.text} (1 in a second)")


@pytest.mark.service
@pytest.mark.parametrize("written", ["bytes=9-2", "items=0-1", "x"])
def test_a_range_that_cannot_be_read_is_not_a_fault_of_the_service(strict: Server, written: str) -> None:
    answer = exchange(strict.url, request("GET /static_content/swagger-ui.css", KEY, f"Range: {written}"))
    assert (answer.status, answer.json["error"]) == (Problem.RANGE.status, Problem.RANGE.text)


@pytest.mark.service
def test_a_body_that_breaks_off_leaves_a_line(strict: Server) -> None:
    head = request("POST /predict", KEY, "Content-Type: application/json", "Transfer-Encoding: chunked")
    with pytest.raises(ConnectionError):
        exchange(strict.url, head + b"ZZ\r\n")
    wait_until(lambda: f"/predict 400: {Problem.CUT_OFF.text} (request_id=" in strict.log.read_text())


@pytest.mark.service
def test_bentomls_own_options_for_workers_and_cors_are_honoured(strict: Server) -> None:
    assert len(strict.workers()) == 1
    for path in ("/livez", "/predict"):
        answer = exchange(strict.url, request(f"GET {path}", "Origin: https://a"))
        assert answer.headers["access-control-allow-origin"] == "https://a"


@pytest.mark.service
def test_open_metrics_and_docs_need_no_key(without_store: Server) -> None:
    for path in ("/metrics", "/", "/docs.json", "/static_content/swagger-ui.css"):
        assert exchange(without_store.url, request(f"GET {path}")).status == 200
    assert exchange(without_store.url, request("POST /predict")).status == 401
    assert "need one of 1 API keys; metrics and docs are open" in without_store.log.read_text()


def test_every_error_is_provoked() -> None:
    assert set(Problem) - set(REQUESTS) == OTHERS


def test_the_reference_lists_every_error() -> None:
    section = (ROOT / "docs/reference.md").read_text().partition("## Errors")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| (\d+) \| `(.+)` \| (.+) \|$", section, re.MULTILINE)
    shown = [(str(one.status.value), re.sub(r"{\w+}", "…", one.text), one.cause) for one in Problem]
    assert listed == shown
