"""The log: each line says which request it is about."""

import asyncio
import json
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from models.classifier import Classifier
from serving.dialogs.dialogs import Dialogs
from serving.dialogs.sqlite_store import SqliteStore
from serving.log import configure_log, set_request_id
from serving.schemas import PlatformMessage
from serving.scoring.batching import Scorer
from tests.conftest import CURL_CHAT, Server, make_chat, running, wait_until
from tests.test_bentoml_users import collector, config
from tests.wire import Response, exchange

BODY = json.dumps(CURL_CHAT).encode()
JSON = b"Content-Type: application/json\r\n"
POST = b"POST /predict HTTP/1.1\r\nHost: a\r\n"


def ask(server: Server, head: bytes, *ids: str, body: bytes = b"") -> Response:
    """Send a head (without its end), some `X-Request-ID`, and a body; returns the response."""
    lines = b"".join(f"X-Request-ID: {one}\r\n".encode() for one in ids)
    length = b"Content-Length: %d\r\n" % len(body) if b"Transfer-Encoding" not in head and body else b""
    return exchange(server.url, head + lines + length + b"\r\n" + body)


@pytest.mark.parametrize(
    ("head", "body", "status", "line"),
    [
        (POST + JSON, BODY, 200, ""),
        (POST + JSON, b"{}", 400, "/predict 400: the request is not valid (body)"),
        (POST, b"{}", 415, "/predict 415: the body must be application/json"),
        (POST + JSON + b"Content-Length: 2000000\r\n", b"", 413, "/predict 413: the body is larger than 1048576 bytes"),
        (b"PUT /predict HTTP/1.1\r\nHost: a\r\n", b"", 405, "/predict 405: Method Not Allowed"),
        (b"GET /nope HTTP/1.1\r\nHost: a\r\n", b"", 404, "/404 404: no such path"),
        (b"GET /try/ HTTP/1.1\r\nHost: a\r\n", b"", 307, ""),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n", b"", 200, ""),
        (POST + b"Host: b\r\n", b"", 400, "a request 400: the request is not valid HTTP"),
        (POST + b"Transfer-Encoding: gzip\r\n", b"", 501, "a request 501: the only transfer coding is chunked"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_the_response_and_the_log_have_the_id_of_the_request(
    server: Server, head: bytes, body: bytes, status: int, line: str
) -> None:
    request_id = f"{status}:{hash(head + body):x}"
    answer = ask(server, head, request_id, body=body)
    assert (answer.status, answer.headers["x-request-id"]) == (status, request_id)
    if line:
        wait_until(lambda: f"(request_id={request_id})" in server.log.read_text())
    about = [one for one in server.log.read_text().splitlines() if request_id in one]
    assert len(about) == bool(line)
    assert all(line in one and one.endswith(f"(request_id={request_id})") for one in about)


def test_a_body_that_breaks_off_leaves_a_line(server: Server) -> None:
    with pytest.raises(ConnectionError):
        ask(server, POST + JSON + b"Transfer-Encoding: chunked\r\n", "broken", body=b"ZZ\r\n")
    line = "/predict 400: the connection or the body ended too early (request_id=broken)"
    wait_until(lambda: line in server.log.read_text())


@pytest.mark.parametrize("ids", [[], [""], ["x" * 129], ["one", "two"], ["a b"], ["a,b"], ["a\tb"], ['"'], ["é"]])
def test_an_id_that_is_missing_or_not_usable_is_made(server: Server, ids: list[str]) -> None:
    made = [ask(server, POST + JSON, *ids, body=body).headers["x-request-id"] for body in (BODY, b"{}")]
    made.append(ask(server, b"\x16\x03\x01").headers["x-request-id"])  # not HTTP
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
    assert len(set(made)) == 3
    wait_until(lambda: all(f"(request_id={one})" in server.log.read_text() for one in made[1:]))


def test_lines_of_json_name_the_request_and_its_trace(tmp_path: Path) -> None:
    """BentoML's own configuration switches on traces and the access log."""
    with collector() as (url, spans):
        tracing = {"exporter_type": "otlp", "sample_rate": 1.0, "otlp": {"protocol": "http", "endpoint": url}}
        options = config(tmp_path, logging={"access": {"enabled": True}}, tracing=tracing)
        environment = {"BENTOML_CONFIG": options, "LOG_FORMAT": "json", "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with running(tmp_path, **environment) as server:
            answers = {
                name: ask(server, POST + JSON, name, body=body) for name, body in {"good": BODY, "bad": b"{}"}.items()
            }
            wait_until(lambda: len([span for span in spans if span.name == "POST /predict"]) == 2, 20)
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all({"asctime", "levelname", "component", "name", "message"} <= line.keys() for line in lines)
    assert {"cli", "entry_service:turing_test_service:1"} <= {line["component"] for line in lines}
    traces = {span.trace_id.hex() for span in spans if span.name == "POST /predict"}
    for name, status in {"good": 200, "bad": 400}.items():
        about = [line for line in lines if line.get("request_id") == name]
        assert (
            [line["name"] for line in about] == ["bentoml.access"]
            if name == "good"
            else ["bentoml.errors", "bentoml.access"]
        )
        assert {(line["path"], line["status"]) for line in about} == {("/predict", status)}
        (ids,) = {(line["trace_id"], line["span_id"]) for line in about}
        assert answers[name].headers["traceresponse"].startswith(f"00-{ids[0]}-{ids[1]}-")
        assert ids[0] in traces
    assert about[-1]["method"] == "POST"


async def all_fail(work: Callable[[], Awaitable[object]]) -> None:
    """Do something for the requests a, b and c, all of which fail."""

    async def answer(request_id: str) -> None:
        set_request_id(request_id)
        await work()

    outcomes = await asyncio.gather(*map(answer, "abc"), return_exceptions=True)
    assert all(isinstance(outcome, Exception) for outcome in outcomes)


@pytest.mark.parametrize("what", ["scoring", "storing"])
def test_a_line_about_several_requests_names_all_of_them(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    """What they share is done by a task that the first of them has started."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", records.append)
    monkeypatch.setattr(logging.getLogger("bentoml"), "handlers", [handler])
    configure_log("text")

    def fail(*_: Any) -> Any:
        raise sqlite3.OperationalError

    async def fail_later(*_: Any) -> Any:
        fail()

    async def score() -> None:
        scorer = Scorer(classifier)
        await all_fail(lambda: scorer.predict([make_chat((0, "hi"))]))

    async def store() -> None:
        dialogs = Dialogs(f"sqlite:///{tmp_path}/dialogs.sqlite")
        message = PlatformMessage(text="hi", dialog_id="d", id="1", participant_index=0)
        await all_fail(lambda: dialogs.store_message(message))
        await dialogs.close()

    monkeypatch.setattr(Classifier, "assess", fail)
    monkeypatch.setattr(SqliteStore, "exchange", fail_later)
    asyncio.run(score() if what == "scoring" else store())
    named: Sequence[str] = [vars(record)["request_id"] for record in records]
    assert ",".join(filter(None, named)) == "a,b,c"
    assert named != ["a", "b", "c"]
