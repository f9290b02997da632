"""Thousands of invalid bodies: each gets a 4xx in the one shape of errors and does not affect other requests."""

import json
import random
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import CURL_CHAT, ROOT, Server, running, sample_bodies, send

pytestmark = pytest.mark.faults
WORDS = "a word that nobody else says"
HERE = Path(__file__).parent
PATHS = ["/predict", "/predict_batch", "/explain"]
STATUSES = {400, 409, 413, 415}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to each part of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


@st.composite
def damaged_chats(draw: st.DrawFn) -> bytes:
    """Draw a valid body in which a part is removed or replaced, and sometimes a few bytes as well."""
    chat: dict[str, Any] = {
        "chat_id": 1,
        "messages": [{"message_id": n, "text": WORDS, "participant_id": n} for n in (0, 1)],
    }
    root: Any = {"body": draw(st.sampled_from([chat, [chat], {"chats": [chat]}]))}
    way = ("body", *draw(st.sampled_from(places(root["body"]))))
    at, last = root, way[-1]
    for key in way[:-1]:
        at = at[key]
    if draw(st.booleans()):
        del at[last]
    else:
        at[last] = draw(JSON)
    raw = json.dumps(root.get("body")).encode()
    if draw(st.booleans()):
        cut = draw(st.integers(0, len(raw)))
        raw = raw[:cut] + draw(st.binary(max_size=6)) + raw[cut + draw(st.integers(0, 4)) :]
    return raw


BODIES = st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode()), damaged_chats())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started


@settings(
    max_examples=1_500,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(path=st.sampled_from(PATHS), body=BODIES)
def test_invalid_bodies_get_a_short_4xx_that_does_not_repeat_them(server: Server, path: str, body: bytes) -> None:
    """1,500 bodies; the few that happen to be valid are answered."""
    answer = send(f"{server.url}{path}", raw=body)
    if answer.status == 200:
        return
    assert answer.status in STATUSES
    assert set(answer.json) == {"error", "detail"}
    assert all(set(part) == {"field", "message"} for part in answer.json["detail"])
    assert len(answer.text.encode()) < 4_096
    assert WORDS not in answer.text
    assert "http" not in answer.text


def test_invalid_bodies_leave_one_warning_each_in_the_log(server: Server) -> None:
    """Runs after the test above: no text of a chat is logged, and no error of the service."""
    log = server.log.read_text()
    refused = [line for line in log.splitlines() if " 400: " in line]
    assert len(refused) > 1_000
    assert WORDS not in log
    assert "Traceback" not in log
    assert "[ERROR]" not in log
    assert all(re.search(r"\[WARNING\].* /\w+ 400: the request is not valid \(", line) for line in refused)
    assert send(f"{server.url}/predict", CURL_CHAT).status == 200


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
    invalid = [b"{", b"null", b'{"chat_id": 1}', json.dumps({"chat_id": 1, "messages": [WORDS]}).encode()]
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


def send_raw(server: Server, sent: bytes) -> bytes:
    """Send bytes on a new connection; returns the start of the response."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(sent)
        return client.recv(4096)


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_what_follows_a_body_that_is_too_long_is_not_taken_for_a_request(server: Server) -> None:
    """The rest is no HTTP: it ends the connection, before or after the body's own 400."""
    sent = HEAD + b"Content-Length: 5\r\n\r\n" + json.dumps(CURL_CHAT).encode()
    answer = send_raw(server, sent)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (HEAD + b"Content-Length: -1\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 1e3\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}", 400),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (HEAD + b"Content-Length: 2000000\r\n\r\n{", 413),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
    ],
)
def test_wrong_lengths_are_rejected(server: Server, sent: bytes, status: int) -> None:
    assert send_raw(server, sent).startswith(b"HTTP/1.1 %d" % status)
    assert send(f"{server.url}/predict", CURL_CHAT).status == 200


def test_a_body_in_a_hundred_thousand_chunks_is_read(server: Server) -> None:
    body = json.dumps(CURL_CHAT).encode().ljust(100_000)
    chunks = b"".join(b"1\r\n" + body[at : at + 1] + b"\r\n" for at in range(len(body))) + b"0\r\n\r\n"
    assert send_raw(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks).startswith(b"HTTP/1.1 200")


def test_validating_a_batch_stops_at_the_first_invalid_chat(server: Server) -> None:
    """Naming the errors of a megabyte of invalid chats would block the worker for seconds."""
    chat: dict[str, Any] = {"messages": [{}] * 1_300}
    answer = send(f"{server.url}/predict_batch", raw=json.dumps({"chats": [chat] * 190}).encode())
    assert answer.status == 400
    named = ["chat_id", *(f"messages[0].{field}" for field in ("message_id", "text", "participant_id"))]
    assert [part["field"] for part in answer.json["detail"]] == [f"chats[0].{field}" for field in named]
