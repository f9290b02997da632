"""The service as BentoML's users use it: clients, notebooks, unit tests, configuration, tracing, Bentos."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import bentoml
import pytest
import yaml
from bentoml.exceptions import BentoMLException, InvalidArgument
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.testclient import TestClient

from models.chat import Chat
from models.classifier import Classifier
from models.weights import SHIPPED
from service import TuringTestService
from tests.conftest import CLIENT, CURL_CHAT, ROOT, Server, free_port, is_ready, running, send, wait_until

BATCH = {"chats": [CURL_CHAT, CURL_CHAT]}


def new_message() -> dict[str, Any]:
    return {"text": "hi", "dialog_id": str(uuid4()), "id": str(uuid4()), "participant_index": 0}


@pytest.fixture(scope="module")
def expected(classifier: Classifier) -> list[float]:
    (prediction,) = classifier.predict([Chat.model_validate(CURL_CHAT)])
    return [side.is_bot_probability for side in prediction.participants]


def probabilities(prediction: Any) -> list[float]:
    return [side["is_bot_probability"] for side in prediction["participants"]]


CALLS: dict[str, Callable[[Any], Any]] = {
    "a chat": lambda client: client.predict(CURL_CHAT),
    "a model that was dumped": lambda client: client.predict(Chat.model_validate(CURL_CHAT).model_dump()),
    "a message": lambda client: client.predict(new_message()),
    "a batch": lambda client: client.predict_batch(BATCH),
    "an explanation": lambda client: client.explain(CURL_CHAT),
}


def check(name: str, answer: Any, expected: list[float]) -> None:
    if name == "a message":
        assert 0 < answer["is_bot_probability"] < 1
        return
    for prediction in answer["predictions"] if name == "a batch" else [answer]:
        assert probabilities(prediction) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", CALLS)
def test_both_clients_call_every_route(server: Server, name: str, expected: list[float]) -> None:
    async def call() -> Any:
        async with bentoml.AsyncHTTPClient(server.url) as client:
            return await CALLS[name](client)

    with bentoml.SyncHTTPClient(server.url) as client:
        check(name, CALLS[name](client), expected)
    check(name, asyncio.run(call()), expected)


def test_the_client_raises_what_the_reference_says(server: Server) -> None:
    message = new_message()
    with bentoml.SyncHTTPClient(server.url) as client:
        with pytest.raises(InvalidArgument, match=r'"field":"messages","message":"Field required"'):
            client.predict({"chat_id": 1})
        client.predict(message)
        with pytest.raises(BentoMLException) as conflict:
            client.predict({**message, "text": "something else"})
        assert conflict.value.error_code == 409
        with pytest.raises(BentoMLException) as large:
            client.predict({**CURL_CHAT, "more": "x" * 2_000_000})
        assert large.value.error_code == 413


@pytest.mark.parametrize("wrap", [dict, Chat.model_validate])
def test_a_notebook_calls_the_service_itself(wrap: Callable[[Any], Any], expected: list[float]) -> None:
    async def call() -> list[Any]:
        service = TuringTestService()
        chat = wrap(CURL_CHAT)
        return [await service.predict(chat), await service.predict_batch(BATCH), await service.explain(chat)]

    for name, answer in zip(["a chat", "a batch", "an explanation"], asyncio.run(call()), strict=True):
        check(name, answer.model_dump(), expected)


def test_the_garbage_collector_leaves_alone_what_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A full collection of all that a worker holds would stop it for some 90 ms."""
    monkeypatch.chdir(tmp_path)
    gc.unfreeze()
    try:
        with TestClient(app=TuringTestService.to_asgi()):  # type: ignore[attr-defined]
            assert gc.get_freeze_count() > len(gc.get_objects())
    finally:
        gc.unfreeze()


def test_two_unit_tests_in_one_process_each_get_an_app(
    expected: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with TestClient(app=TuringTestService.to_asgi()) as client:  # type: ignore[attr-defined]
            assert probabilities(client.post("/predict", json=CURL_CHAT).json()) == pytest.approx(expected, abs=1e-9)
            for _ in range(3):  # each by more than one, so that they are scored in batches
                with ThreadPoolExecutor(4) as threads:
                    bodies = [CURL_CHAT] * 8
                    answers = list(threads.map(lambda body: client.post("/predict", json=body), bodies))
                assert [answer.status_code for answer in answers] == [200] * 8


def config(folder: Path, **options: Any) -> str:
    file = folder / "bentoml.yaml"
    file.write_text(yaml.safe_dump({"services": {"turing_test_service": options}}))
    return str(file)


def test_bentomls_own_limits_are_honoured_in_the_one_shape(tmp_path: Path) -> None:
    """`workers`, by which BentoML divides the limit, `traffic.max_concurrency` and `traffic.timeout`."""
    crowd = {
        "chat_id": 1,
        "messages": [{"message_id": n, "text": "hello " * 1_000, "participant_id": n % 64} for n in range(160)],
    }
    options = {"workers": 1, "traffic": {"max_concurrency": 4, "timeout": 1}}
    with running(tmp_path, BENTOML_CONFIG=config(tmp_path, **options)) as server, ThreadPoolExecutor(12) as clients:
        assert len(Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()) == 1
        answers = list(clients.map(lambda _: send(f"{server.url}/explain", crowd), range(12)))
        statuses = {answer.status for answer in answers}
        assert {429, 503} <= statuses <= {200, 429, 503}
        assert 4 <= sum(answer.status != 429 for answer in answers) < 12
        assert all(set(answer.json) == {"error", "detail"} for answer in answers if answer.status != 200)


def test_bentomls_own_cors_option_covers_predictions(tmp_path: Path) -> None:
    cors = {"enabled": True, "access_control_allow_origins": ["https://a.example"]}
    with running(tmp_path, BENTOML_CONFIG=config(tmp_path, http={"cors": cors})) as server:
        for path in ("/livez", "/predict"):
            answer = CLIENT.get(f"{server.url}{path}", headers={"Origin": "https://a.example"})
            assert answer.headers["access-control-allow-origin"] == "https://a.example"
        asked = {"Origin": "https://b.example", "Access-Control-Request-Method": "GET"}
        answer = CLIENT.options(f"{server.url}/predict", headers=asked)
        assert answer.json() == {"error": "the origin, method or header is not allowed", "detail": []}


def test_two_services_on_one_machine_keep_their_own_metrics(tmp_path: Path) -> None:
    def count(server: Server) -> float:
        lines = send(f"{server.url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if 'request_total{endpoint="/predict"' in line)

    (tmp_path / "second").mkdir()
    home = str(tmp_path / "bentoml")
    with running(tmp_path, BENTOML_HOME=home) as first:
        for _ in range(20):
            assert send(f"{first.url}/predict", CURL_CHAT).status == 200
        with running(tmp_path / "second", BENTOML_HOME=home) as second:
            assert send(f"{second.url}/predict", CURL_CHAT).status == 200
            assert (count(first), count(second)) == (20, 1)


def tree(folder: Path) -> dict[str, str]:
    """Return the checksums of all files of a folder; Python's cache of compiled modules does not count."""
    return {
        str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_a_bento_does_not_change_by_being_served(tmp_path: Path) -> None:
    """From another folder, with messages of a dialog, which land in the user's data folder."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "HISTORY_FOLDER"},
        "BENTOML_HOME": str(tmp_path / "bentoml"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
    }
    command = [sys.executable, "-m", "bentoml"]
    subprocess.run([*command, "build"], cwd=ROOT, env=environment, check=True, capture_output=True)
    (bento,) = (folder.parent for folder in (tmp_path / "bentoml" / "bentos").rglob("bento.yaml"))
    before = tree(bento)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    port = free_port()
    serve = [*command, "serve", "turing_test_service:latest", "--port", str(port)]
    process = subprocess.Popen(
        serve, cwd=elsewhere, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: is_ready(f"http://localhost:{port}"))
        assert send(f"http://localhost:{port}/predict", new_message()).status == 200
    finally:
        process.terminate()
        process.wait(timeout=20)
    assert tree(bento) == before
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "data" / "turing_test_service" / "history" / "dialogs.sqlite").is_file()


def test_a_relative_model_folder_is_the_same_for_all_processes(tmp_path: Path, classifier: Classifier) -> None:
    relative = os.path.relpath(SHIPPED, ROOT)
    with running(tmp_path, MODEL_FOLDER=relative) as server:
        assert send(f"{server.url}/predict", CURL_CHAT).json["model_version"] == classifier.version


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


def test_a_trace_shows_a_request_with_its_wait_and_its_scoring(tmp_path: Path) -> None:
    with (
        collector() as (url, spans),
        running(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="100") as server,
    ):
        assert send(f"{server.url}/predict", CURL_CHAT).status == 200
        wait_until(lambda: {"queue", "score", "POST /predict"} <= {span.name for span in spans}, 20)
    by_name = {span.name: span for span in spans if span.name in ("queue", "score", "POST /predict")}
    request, queue, score = by_name["POST /predict"], by_name["queue"], by_name["score"]
    assert queue.parent_span_id == score.parent_span_id == request.span_id
    assert request.start_time_unix_nano <= queue.start_time_unix_nano <= queue.end_time_unix_nano
    assert queue.end_time_unix_nano == score.start_time_unix_nano < score.end_time_unix_nano
    assert score.end_time_unix_nano <= request.end_time_unix_nano
    texts = [message.text for message in Chat.model_validate(CURL_CHAT).messages]
    assert [text for text in texts if any(text in str(span) for span in spans)] == []
