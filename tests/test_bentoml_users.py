"""The service as BentoML's users use it: clients, notebooks, unit tests, configuration, tracing, Bentos."""

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import bentoml
import pytest
from bentoml.exceptions import BentoMLException, InvalidArgument
from starlette.testclient import TestClient

from models.chat import Chat
from models.classifier import Classifier
from models.weights import SHIPPED
from service import TuringTestService
from tests.conftest import CURL_CHAT, ROOT, Server, answering, free_port, send, start

BATCH = {"chats": [CURL_CHAT, CURL_CHAT]}


def new_message() -> dict[str, Any]:
    return {"text": "hi", "dialog_id": str(uuid4()), "id": str(uuid4()), "participant_index": 0}


@pytest.fixture(scope="module")
def expected(classifier: Classifier) -> list[float]:
    (prediction,) = classifier.predict([Chat.model_validate(CURL_CHAT)])
    return [side.is_bot_probability for side in prediction.participants]


def probabilities(prediction: Any) -> list[float]:
    return [side["is_bot_probability"] for side in prediction["participants"]]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("predict", CURL_CHAT),
        ("predict", Chat.model_validate(CURL_CHAT).model_dump()),
        ("predict_batch", BATCH),
        ("explain", CURL_CHAT),
    ],
)
def test_both_clients_call_every_route(server: Server, route: str, body: Any, expected: list[float]) -> None:
    async def call() -> Any:
        async with bentoml.AsyncHTTPClient(server.url) as client:
            return await getattr(client, route)(body)

    with bentoml.SyncHTTPClient(server.url) as client:
        answers = [getattr(client, route)(body), asyncio.run(call())]
    for answer in answers:
        for prediction in answer.get("predictions", [answer]):
            assert probabilities(prediction) == pytest.approx(expected, abs=1e-9)


def test_the_client_sends_a_message_and_raises_what_the_reference_says(server: Server) -> None:
    message = new_message()
    with bentoml.SyncHTTPClient(server.url) as client:
        with pytest.raises(InvalidArgument, match=r'"field":"messages","message":"Field required"'):
            client.predict({"chat_id": 1})
        assert 0 < client.predict(message)["is_bot_probability"] < 1
        with pytest.raises(BentoMLException) as conflict:
            client.predict({**message, "text": "something else"})
        assert conflict.value.error_code == 409
        with pytest.raises(BentoMLException) as large:
            client.predict({**CURL_CHAT, "more": "x" * 2_000_000})
        assert large.value.error_code == 413


@pytest.mark.parametrize("wrap", [dict, Chat.model_validate])
def test_a_notebook_calls_the_service_itself(wrap: Callable[[Any], Any], expected: list[float]) -> None:
    async def call() -> list[Any]:
        service, chat = TuringTestService(), wrap(CURL_CHAT)
        batch = (await service.predict_batch(BATCH)).predictions
        return [(await service.predict(chat)).root, await service.explain(chat), *batch]

    for answer in asyncio.run(call()):
        assert probabilities(answer.model_dump()) == pytest.approx(expected, abs=1e-9)


def test_two_unit_tests_in_one_process_each_get_an_app(
    expected: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With what stays left out of the garbage collection, which would stop a worker for some 90 ms."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        gc.unfreeze()
        with TestClient(app=TuringTestService.to_asgi()) as client:  # type: ignore[attr-defined]
            assert gc.get_freeze_count() > len(gc.get_objects())
            assert probabilities(client.post("/predict", json=CURL_CHAT).json()) == pytest.approx(expected, abs=1e-9)
            for _ in range(3):  # each by more than one, so that they are scored in batches
                with ThreadPoolExecutor(4) as threads:
                    bodies = [CURL_CHAT] * 8
                    answers = list(threads.map(lambda body: client.post("/predict", json=body), bodies))
                assert [answer.status_code for answer in answers] == [200] * 8


def tree(folder: Path) -> dict[str, str]:
    """Return the checksums of all files of a folder; Python's cache of compiled modules does not count."""
    return {
        str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_a_bento_does_not_change_by_being_served(tmp_path: Path) -> None:
    """From another folder; `MODEL_FOLDER` is relative to the Bento; messages land in the user's data folder."""
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
    port, log = free_port(), tmp_path / "log"
    serve = [*command, "serve", "turing_test_service:latest", "--port", str(port)]
    environment["MODEL_FOLDER"] = os.path.relpath(SHIPPED, bento / "src")
    with answering(f"http://localhost:{port}", log, start(log, serve, cwd=elsewhere, env=environment)) as url:
        assert send(f"{url}/predict", new_message()).status == 200
    assert tree(bento) == before
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "data" / "turing_test_service" / "history" / "dialogs.sqlite").is_file()
