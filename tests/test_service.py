"""The service over HTTP, on a real server process."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.chat import Chat
from models.classifier import Classifier
from service import TuringTestService
from tests.conftest import (
    CURL_CHAT,
    ROOT,
    SAMPLE,
    Answer,
    Server,
    running,
    sample_bodies,
    send,
)
from train.artifact import write_artifact
from train.data import read_editions
from train.fit import Fitted, fit, tabulate


def numbers(answer: Any) -> list[float]:
    return [side["is_bot_probability"] for side in answer["participants"]]


def test_identifiers_come_back_as_given(server: Server) -> None:
    body = {
        "chat_id": "chat 7",
        "messages": [
            {"message_id": "a", "text": "hi", "participant_id": "1"},
            {"message_id": 1, "text": "hello", "participant_id": 1},
        ],
    }
    answer = send(f"{server.url}/predict", body).json
    assert answer["chat_id"] == "chat 7"
    assert [side["participant_id"] for side in answer["participants"]] == ["1", 1]


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit(tabulate(read_editions([SAMPLE])))


@pytest.fixture(scope="module")
def sample_server(tmp_path_factory: pytest.TempPathFactory, fitted: Fitted) -> Iterator[Server]:
    """Serve a freshly trained model from another folder."""
    folder = tmp_path_factory.mktemp("sample-model")
    write_artifact(folder, fitted.weights(), read_editions([SAMPLE]), [])
    with running(folder, MODEL_FOLDER=str(folder), WORKERS="1") as started:
        yield started


def test_single_queued_and_batch_requests_give_the_probabilities_of_training(
    sample_server: Server, fitted: Fitted
) -> None:
    """Each request of a burst gets its own answer, and some are scored together."""
    server = sample_server
    bodies = sample_bodies()
    of_classifier = Classifier(fitted.weights(), "test").predict([Chat.model_validate(body) for body in bodies])
    expected = [pytest.approx(numbers(answer.model_dump()), abs=1e-9) for answer in of_classifier]
    answers = [send(f"{server.url}/predict", body) for body in bodies] + send_together(server, bodies * 2)
    assert {answer.status for answer in answers} == {200}
    assert [numbers(answer.json) for answer in answers] == expected * 3
    sizes = server.batch_sizes()
    assert sizes[float("inf")] > sizes[1.0]
    batch = send(f"{server.url}/predict_batch", {"chats": bodies}).json["predictions"]
    assert [numbers(answer) for answer in batch] == expected
    assert [answer["chat_id"] for answer in batch] == [body["chat_id"] for body in bodies]


def test_the_expected_share_of_bots_is_that_of_the_setting(tmp_path: Path, classifier: Classifier) -> None:
    bodies = sample_bodies()[:5]
    with running(tmp_path, EXPECTED_BOT_SHARE="0.02") as server:
        answers = [send(f"{server.url}/predict", body).json for body in bodies]
        assert send(f"{server.url}/explain", CURL_CHAT).json["expected_bot_share"] == 0.02
    expected = classifier.predict([Chat.model_validate(body) for body in bodies], 0.02)
    for got, answer in zip(answers, expected, strict=True):
        assert numbers(got) == pytest.approx([side.is_bot_probability for side in answer.participants], abs=1e-9)


def send_together(server: Server, bodies: list[dict[str, Any]]) -> list[Answer]:
    """POST each body to `/predict` on its own connection; the last bytes are held back and sent one after the other."""
    connections = [http.client.HTTPConnection("localhost", int(server.url.rsplit(":", 1)[1])) for _ in bodies]
    raw = [json.dumps(body).encode() for body in bodies]
    for connection, body in zip(connections, raw, strict=True):
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:-1])
    for connection, body in zip(connections, raw, strict=True):
        connection.send(body[-1:])
    answers = []
    for connection in connections:
        response = connection.getresponse()
        answers.append(Answer(response.status, response.read().decode()))
        connection.close()
    return answers


def test_the_default_port_is_8000() -> None:
    assert TuringTestService.config["http"]["port"] == 8000  # type: ignore[attr-defined]


def test_serving_imports_no_training_code() -> None:
    command = "import service, sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "models.classifier" in modules
    assert not {"pandas", "sklearn", "train"} & set(modules)


TEXT = "my very secret words"
GOOD = {"message_id": 0, "text": TEXT, "participant_id": 0}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"chat_id": 1, "messages": []}, "messages"),
        ({"chat_id": 1}, "messages"),
        ({"messages": [GOOD]}, "chat_id"),
        ({"chat_id": None, "messages": [GOOD]}, "chat_id"),
        ({"chat_id": 1, "messages": [GOOD, {**GOOD, "text": 5}]}, "messages[1].text"),
        ({"chat_id": 1, "messages": [{**GOOD, "participant_id": 1.5}]}, "messages[0].participant_id"),
        ({"chat_id": 1, "messages": [{"text": TEXT, "participant_id": 1}]}, "messages[0].message_id"),
        ({"chat_id": 1, "messages": [TEXT]}, "messages[0]"),
        ({"chat_id": 1, "messages": [{**GOOD, "text": "\ud800"}]}, "messages[0].text"),
        ({"chat_id": 1, "messages": [{**GOOD, "text": "\ud800a"}]}, "messages[0].text"),
        ({"chat_id": 1, "messages": {"text": TEXT}}, "messages"),
        ([TEXT], "body"),
        (TEXT, "body"),
        (None, "body"),
    ],
)
@pytest.mark.parametrize("route", ["/predict", "/explain"])
def test_an_error_names_the_invalid_field(server: Server, route: str, body: object, field: str) -> None:
    answer = send(f"{server.url}{route}", raw=json.dumps(body).encode())
    assert answer.status == 400
    assert field in [part["field"] for part in answer.json["detail"]]
    assert len(answer.text) < 1000
    assert TEXT not in answer.text


@pytest.mark.parametrize("kind", ["", "text/plain", "application/jsonp", "multipart/form-data; boundary=x"])
def test_other_content_types_get_415(server: Server, kind: str) -> None:
    assert send(f"{server.url}/predict", raw=json.dumps(CURL_CHAT).encode(), content_type=kind).status == 415


PREDICTIONS = ["/predict", "/predict_batch", "/explain"]


def find_schemas(part: object) -> Iterator[dict[str, object]]:
    """Yield each object of a specification."""
    if isinstance(part, dict):
        yield part
    if isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from find_schemas(inner)


def test_the_specification_documents_both_bodies_and_both_types_of_identifiers(server: Server) -> None:
    spec = send(f"{server.url}/docs.json").json
    schema = spec["components"]["schemas"]["Message"]["properties"]["participant_id"]
    assert [(kind["type"], kind.get("maximum"), kind.get("maxLength")) for kind in schema["oneOf"]] == [
        ("integer", 2**63 - 1, None),
        ("string", None, 128),
    ]
    assert {"Chats", "Predictions", "Explanation"} <= spec["components"]["schemas"].keys()
    assert not any("examples" in field for field in find_schemas(spec["components"]["schemas"]))  # OpenAPI 3.0 has none
    unavailable = {path: spec["paths"][path]["post"]["responses"]["503"]["description"] for path in PREDICTIONS}
    assert ["store" in unavailable[path] for path in PREDICTIONS] == [True, False, False]
    content = spec["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    names = [part["$ref"].split("/")[-1] for part in spec["components"]["schemas"]["ChatOrMessage"]["anyOf"]]
    assert names == ["Chat", "PlatformMessage"]
    assert all(spec["components"]["schemas"][name]["example"] for name in names)
    bodies = [example["value"] for example in content["examples"].values()]
    assert [send(f"{server.url}/predict", body).status for body in bodies] == [200, 200]


@pytest.mark.parametrize("identifier", ["x" * 129, 2**63, 1.5, None])
def test_the_error_of_an_identifier_says_what_it_may_be(server: Server, identifier: object) -> None:
    answer = send(f"{server.url}/predict", {"chat_id": identifier, "messages": [GOOD]})
    assert answer.status == 400
    message = "Input should be an integer of 64 bits or a string of at most 128 characters"
    assert answer.json["detail"] == [{"field": "chat_id", "message": message}]
