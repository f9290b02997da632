"""The service over HTTP, on a real server process."""

import asyncio
import json
import re
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import CURL_CHAT, ROOT, SAMPLE, Reply, Server, running, sample_bodies, send
from tests.faults.client import Connection
from train.artifact import write_artifact
from train.data import read_editions
from train.fit import fit, tabulate


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


def test_single_queued_and_batch_requests_give_the_probabilities_of_training(tmp_path: Path) -> None:
    """For the share of bots that is set; each request of a burst gets its own answer, and some are scored together.

    Invalid ones between them get 400 and affect no other.
    """
    fitted = fit(tabulate(read_editions([SAMPLE])))
    write_artifact(tmp_path, fitted.weights(), read_editions([SAMPLE]), [])
    bodies = sample_bodies()
    chats = [Chat.model_validate(body) for body in bodies]
    of_classifier = Classifier(fitted.weights(), "test").predict(chats, 0.02)
    expected = [pytest.approx(numbers(answer.model_dump()), abs=1e-9) for answer in of_classifier]

    invalid = [b"{", b"null", b'{"chat_id": 1}', b'{"chat_id": 1, "messages": ["hi"]}']
    mixed = [sent for body, bad in zip(bodies * 2, cycle(invalid)) for sent in (json.dumps(body).encode(), bad)]

    async def ask(url: str, body: bytes) -> Reply:
        async with Connection(url) as connection:
            return await connection.post("/predict", body)

    async def ask_together(url: str) -> list[Reply]:
        return await asyncio.gather(*(ask(url, body) for body in mixed))

    with running(tmp_path, MODEL_FOLDER=str(tmp_path), EXPECTED_BOT_SHARE="0.02", WORKERS="1") as server:
        assert [numbers(send(f"{server.url}/predict", body).json) for body in bodies] == expected
        replies = asyncio.run(ask_together(server.url))
        assert [numbers(reply.json) for reply in replies[::2]] == expected * 2
        assert {reply.status for reply in replies[1::2]} == {400}
        metrics = send(f"{server.url}/metrics").text
        alone, all_batches = re.findall(r'adaptive_batch_size_bucket\{le="(?:1.0|\+Inf)".*\} (\S+)', metrics)
        assert float(alone) < float(all_batches)
        batch = send(f"{server.url}/predict_batch", {"chats": bodies}).json["predictions"]
        assert [numbers(answer) for answer in batch] == expected
        assert [answer["chat_id"] for answer in batch] == [body["chat_id"] for body in bodies]
        assert send(f"{server.url}/explain", CURL_CHAT).json["expected_bot_share"] == 0.02


def test_serving_imports_no_training_code() -> None:
    command = "import service, sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "models.classifier" in modules
    assert not {"pandas", "sklearn", "train"} & set(modules)


PREDICTIONS = ["/predict", "/predict_batch", "/explain"]


def test_the_specification_documents_both_bodies_and_both_types_of_identifiers(server: Server) -> None:
    answer = send(f"{server.url}/docs.json")
    spec = answer.json
    schema = spec["components"]["schemas"]["Message"]["properties"]["participant_id"]
    assert [(kind["type"], kind.get("maximum"), kind.get("maxLength")) for kind in schema["oneOf"]] == [
        ("integer", 2**63 - 1, None),
        ("string", None, 128),
    ]
    assert {"Chats", "Predictions", "Explanation"} <= spec["components"]["schemas"].keys()
    assert '"examples":[' not in answer.text, "OpenAPI 3.0 has none in a schema"
    unavailable = {path: spec["paths"][path]["post"]["responses"]["503"]["description"] for path in PREDICTIONS}
    assert ["store" in unavailable[path] for path in PREDICTIONS] == [True, False, False]
    content = spec["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    names = [part["$ref"].split("/")[-1] for part in spec["components"]["schemas"]["ChatOrMessage"]["anyOf"]]
    assert names == ["Chat", "PlatformMessage"]
    assert all(spec["components"]["schemas"][name]["example"] for name in names)
    bodies = [example["value"] for example in content["examples"].values()]
    assert [send(f"{server.url}/predict", body).status for body in bodies] == [200, 200]
