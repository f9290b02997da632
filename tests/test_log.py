"""The log: each line says which request it is about."""

import asyncio
import json
import logging
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from models.classifier import Classifier
from serving.dialogs.dialogs import Dialogs
from serving.dialogs.sqlite_store import SqliteStore
from serving.errors import Problem
from serving.log import configure_log, set_request_id
from serving.schemas import PlatformMessage
from serving.scoring.batching import Scorer
from tests.conftest import CURL_CHAT, Reply, Server, config, make_chat, running, wait_until
from tests.wire import exchange, request

BODY = json.dumps(CURL_CHAT).encode()
BODIES = {"good": BODY, "bad": b"{}"}


def ask(server: Server, line: str, *ids: str, body: bytes = b"") -> Reply:
    """Send a request with some `X-Request-ID`."""
    headers = ["Content-Type: application/json", *(f"X-Request-ID: {one}" for one in ids)]
    return exchange(server.url, request(line, *headers, body=body))


@pytest.mark.parametrize(("line", "body", "status"), [("POST /predict", BODY, 200), ("GET /try/", b"", 307)])
def test_a_response_has_the_id_of_the_request_and_leaves_no_line(
    server: Server, line: str, body: bytes, status: int
) -> None:
    """Errors leave one line each: `tests/test_errors.py`."""
    answer = ask(server, line, f"id-of-{status}", body=body)
    assert (answer.status, answer.headers["x-request-id"]) == (status, f"id-of-{status}")
    assert f"id-of-{status}" not in server.log.read_text()


@pytest.mark.parametrize("ids", [[], [""], ["x" * 129], ["one", "two"], ["a b"], ["a,b"], ["a\tb"], ['"'], ["é"]])
def test_an_id_that_is_missing_or_not_usable_is_made(server: Server, ids: list[str]) -> None:
    made = [ask(server, "POST /predict", *ids, body=body).headers["x-request-id"] for body in (BODY, b"{}")]
    made.append(exchange(server.url, b"\x16\x03\x01").headers["x-request-id"])  # not HTTP
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
    assert len(set(made)) == 3
    lines = [
        f"/predict 400: the request is not valid (body) (request_id={made[1]})",
        f"a request 400: {Problem.NOT_HTTP.text} (request_id={made[2]})",
    ]
    wait_until(lambda: all(f"] {line}\n" in server.log.read_text() for line in lines))


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Run a collector of OpenTelemetry traces; yields its address and the spans that it gets."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in request.resource_spans:
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("configured_by", ["the variable", "BentoML"])
def test_lines_of_json_name_the_request_and_its_trace_which_shows_its_wait_and_its_scoring(
    tmp_path: Path, configured_by: str
) -> None:
    with collector() as (url, spans):
        environment = {"LOG_FORMAT": "json", "OTEL_BSP_SCHEDULE_DELAY": "100"}
        tracing = {}
        if configured_by == "BentoML":
            tracing = {"exporter_type": "otlp", "sample_rate": 1.0, "otlp": {"protocol": "http", "endpoint": url}}
        else:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        options = config(tmp_path, logging={"access": {"enabled": True}}, tracing=tracing)
        with running(tmp_path, BENTOML_CONFIG=options, **environment) as server:
            answers = {name: ask(server, "POST /predict", name, body=body) for name, body in BODIES.items()}
            assert exchange(server.url, request("GET /", "Host: b", "X-Request-ID: broken")).status == 400
            wait_until(lambda: len([span for span in spans if span.name == "POST /predict"]) == 2, 20)
            wait_until(lambda: {"queue", "score"} <= {span.name for span in spans}, 20)
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all({"asctime", "levelname", "component", "name", "message"} <= line.keys() for line in lines)
    assert {"cli", "entry_service:turing_test_service:1"} <= {line["component"] for line in lines}
    of_requests = {span.trace_id.hex(): span for span in spans if span.name == "POST /predict"}
    traced = {}
    for name, status, loggers in (
        ("good", 200, ["bentoml.access"]),
        ("bad", 400, ["bentoml.errors", "bentoml.access"]),
    ):
        about = [line for line in lines if line.get("request_id") == name]
        assert [line["name"] for line in about] == loggers
        assert {(line["path"], line["status"]) for line in about} == {("/predict", status)}
        assert about[-1]["method"] == "POST"
        (ids,) = {(line["trace_id"], line["span_id"]) for line in about}
        assert answers[name].headers["traceresponse"].startswith(f"00-{ids[0]}-{ids[1]}-")
        traced[name] = of_requests[ids[0]]
    (broken,) = [line for line in lines if line.get("request_id") == "broken"]
    assert (broken["status"], "path" in broken) == (400, False)

    asked, (queue,), (score,) = traced["good"], *([s for s in spans if s.name == name] for name in ("queue", "score"))
    assert queue.parent_span_id == score.parent_span_id == asked.span_id
    assert asked.start_time_unix_nano <= queue.start_time_unix_nano <= queue.end_time_unix_nano
    assert queue.end_time_unix_nano == score.start_time_unix_nano < score.end_time_unix_nano
    assert score.end_time_unix_nano <= asked.end_time_unix_nano
    texts = [message["text"] for message in json.loads(BODY)["messages"]]
    assert [text for text in texts if any(text in str(span) for span in spans)] == []


@pytest.mark.parametrize("what", ["scoring", "storing"])
def test_a_line_about_several_requests_names_all_of_them(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """What they share is done by a task that the first of them has started."""
    monkeypatch.setattr(caplog.handler, "filters", [])
    monkeypatch.setattr(logging.getLogger("bentoml"), "propagate", False)
    monkeypatch.setattr(logging.getLogger("bentoml"), "handlers", [caplog.handler])
    configure_log("text")

    async def fail(*_: Any) -> Any:
        raise sqlite3.OperationalError

    async def fail_for_three() -> None:
        scorer, dialogs = Scorer(classifier), Dialogs(tmp_path / "dialogs.sqlite")
        message = PlatformMessage(text="hi", dialog_id="d", id="1", participant_index=0)

        async def answer(request_id: str) -> None:
            set_request_id(request_id)
            await (scorer.predict([make_chat((0, "hi"))]) if what == "scoring" else dialogs.store_message(message))

        outcomes = await asyncio.gather(*map(answer, "abc"), return_exceptions=True)
        assert all(isinstance(outcome, Exception) for outcome in outcomes)
        await dialogs.close()

    monkeypatch.setattr(Classifier, "assess", Mock(side_effect=RuntimeError))
    monkeypatch.setattr(SqliteStore, "exchange", fail)
    asyncio.run(fail_for_three())
    named: Sequence[str] = [vars(record)["request_id"] for record in caplog.records]
    assert ",".join(filter(None, named)) == "a,b,c"
    assert named != ["a", "b", "c"]
