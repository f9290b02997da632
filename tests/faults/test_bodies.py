"""Invalid bodies: each gets a 4xx in the one shape of errors and does not affect other requests."""

import json
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import CURL_CHAT, ROOT, Server, sample_bodies, send
from tests.wire import CHUNKED, exchange

pytestmark = pytest.mark.faults
HERE = Path(__file__).parent


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    """With all of its checks, on the whole specification."""
    command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", f"{HERE}/schemathesis.toml"]
    done = subprocess.run(
        [*command, "run", f"{server.url}/docs.json", "--max-examples=100", "--seed=1", "--no-color"],
        env={"SCHEMATHESIS_HOOKS": "tests.faults.hooks", "PATH": "", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    assert int(re.findall(r"(\d+) generated", done.stdout)[0]) > 300


def test_invalid_requests_do_not_affect_concurrent_valid_ones(server: Server, classifier: Classifier) -> None:
    source = random.Random(1)  # noqa: S311
    good = sample_bodies()
    expected = classifier.predict([Chat.model_validate(body) for body in good])
    invalid = [b"{", b"null", b'{"chat_id": 1}', json.dumps({"chat_id": 1, "messages": ["hi"]}).encode()]
    asked: list[bytes | int] = [
        source.choice(invalid) if source.random() < 0.5 else source.randrange(len(good)) for _ in range(400)
    ]
    raws = [json.dumps(good[what]).encode() if isinstance(what, int) else what for what in asked]
    with ThreadPoolExecutor(32) as clients:
        answers = list(clients.map(lambda raw: send(f"{server.url}/predict", raw=raw), raws))
    for what, answer in zip(asked, answers, strict=True):
        if isinstance(what, bytes):
            assert answer.status == 400
        else:
            got = [side["is_bot_probability"] for side in answer.json["participants"]]
            sides = expected[what].participants
            assert got == pytest.approx([side.is_bot_probability for side in sides], abs=1e-9)


def test_a_body_in_a_hundred_thousand_chunks_is_read(server: Server) -> None:
    body = json.dumps(CURL_CHAT).encode().ljust(100_000)
    chunks = b"".join(b"1\r\n" + body[at : at + 1] + b"\r\n" for at in range(len(body))) + b"0\r\n\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    assert exchange(server.url, head + CHUNKED + chunks).status == 200
