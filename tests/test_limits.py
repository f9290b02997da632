"""Limits of requests, each from both sides, and hostile bodies, which get a 4xx in the one shape of errors."""

import asyncio
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from models.chat import MAX_EXPLAINED, MAX_MESSAGES
from serving.errors import RefusedError
from serving.http.bodies import read_body
from serving.schemas import MAX_CHATS
from tests.conftest import CLIENT, CURL_CHAT, ROOT, Server, send, wait_until
from tests.wire import CHUNKED, exchange


def chat_of(number: int = 1, **fields: Any) -> dict[str, Any]:
    messages = [{"message_id": at, "text": "hi", "participant_id": at % 2, **fields} for at in range(number)]
    return {"chat_id": 1, "messages": messages}


def crowd(number: int) -> dict[str, Any]:
    return {"chat_id": 1, "messages": [{"message_id": at, "text": "hi", "participant_id": at} for at in range(number)]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", chat_of(MAX_MESSAGES)),
        ("/predict", chat_of(text="x" * 8_000)),
        ("/predict", chat_of(participant_id="x" * 128)),
        ("/predict", crowd(MAX_EXPLAINED + 1)),
        ("/predict_batch", {"chats": [CURL_CHAT] * MAX_CHATS}),
        ("/explain", crowd(MAX_EXPLAINED)),
    ],
)
def test_requests_up_to_the_limit_are_accepted(server: Server, path: str, body: Any) -> None:
    assert send(f"{server.url}{path}", body).status == 200


MESSAGE = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
NEITHER = "Send a chat (chat_id, messages) or one message of a dialog (text, dialog_id, id, participant_index)"
IDENTIFIER = "Input should be an integer of 64 bits or a string of at most 128 characters"


@pytest.mark.parametrize(
    ("path", "body", "field", "message"),
    [
        ("/predict", chat_of(MAX_MESSAGES + 1), "messages", ""),
        ("/predict", chat_of(text="x" * 8_001), "messages[0].text", ""),
        ("/predict", chat_of(text=None), "messages[0].text", ""),
        ("/predict", chat_of(text="\ud800a"), "messages[0].text", ""),
        ("/predict", chat_of(participant_id="x" * 129), "messages[0].participant_id", IDENTIFIER),
        ("/predict", chat_of(participant_id=2**63), "messages[0].participant_id", IDENTIFIER),
        ("/predict", chat_of(participant_id=1.5), "messages[0].participant_id", IDENTIFIER),
        ("/predict", {**CURL_CHAT, "chat_id": None}, "chat_id", IDENTIFIER),
        ("/predict", {"messages": CURL_CHAT["messages"]}, "chat_id", "Field required"),
        ("/predict", {"chat_id": 1}, "messages", "Field required"),
        ("/predict", chat_of(0), "messages", ""),
        ("/predict", chat_of(2, message_id=7), "messages", "Every message_id should be unique"),
        ("/predict", {"chat_id": 1, "messages": ["hi"]}, "messages[0]", ""),
        ("/predict", ["hi"], "body", NEITHER),
        ("/predict", {"question": 1}, "body", NEITHER),
        *(("/predict", {**MESSAGE, field: "a\0b"}, field, "") for field in ("text", "dialog_id", "id")),
        ("/predict_batch", {"chats": [CURL_CHAT] * (MAX_CHATS + 1)}, "chats", ""),
        ("/predict_batch", {"chats": [CURL_CHAT, {}, CURL_CHAT]}, "chats[1].chat_id", "Field required"),
        (
            "/predict_batch",
            {"chats": [{"messages": [{}] * 1_300}] * 190},
            "chats[0].messages[0].text",
            "Field required",
        ),
        ("/explain", crowd(MAX_EXPLAINED + 1), "messages", "At most 64 participants are explained"),
        ("/explain", "hi", "body", ""),
    ],
)
def test_an_error_names_the_invalid_field(server: Server, path: str, body: Any, field: str, message: str) -> None:
    """Those of the first invalid chat and message: naming all of a megabyte would block the worker for seconds."""
    answer = send(f"{server.url}{path}", body)
    assert answer.status == 400
    named = {part["field"]: part["message"] for part in answer.json["detail"]}
    assert message in named[field]
    assert len({item for name in named for item in re.findall(r"\w+\[\d+\]", name)}) <= 2, "chats[…] and messages[…]"


def pack(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


BODY = json.dumps(CURL_CHAT).encode()


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("gzip", pack(BODY), 200),
        ("GZIP", pack(BODY), 200),
        ("identity", b"\xef\xbb\xbf" + BODY, 200),
        ("gzip", pack(BODY.ljust(2**20)), 200),
        ("gzip", pack(BODY.ljust(2**20 + 1)), 413),
        ("gzip", pack(b" " * 100_000_000)[:100_000], 413),
        ("gzip", BODY, 400),
        ("gzip", pack(BODY)[:-4], 400),
        ("gzip", pack(BODY) + b"more", 400),
        ("gzip", pack(BODY[:20]) + pack(BODY[20:]), 400),
        ("br", BODY, 415),
        ("deflate", zlib.compress(BODY), 415),
        ("gzip, gzip", pack(pack(BODY)), 415),
    ],
)
def test_gzip_is_unpacked_within_the_limit(server: Server, coding: str, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    answer = CLIENT.post(f"{server.url}/predict", content=body, headers=headers)
    assert answer.status_code == status
    assert status != 200 or answer.json()["chat_id"] == 42


BAD_BODIES = [
    b"",
    b"null",
    b"NaN",
    b"[]",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"chat_id": 1, "messages": [{"message_id": 0, "text": "\\ud800", "participant_id": 0}]}',
    b'{"chat_id": 1e999, "messages": [{"message_id": 0, "text": "SECRET", "participant_id": 0}]}',
    b'{"chat_id": ' + b"9" * 5_000 + b', "messages": [{"message_id": 0, "text": "SECRET", "participant_id": 0}]}',
    json.dumps({"chat_id": 1, "messages": ["SECRET"] * 20_000}).encode(),
    json.dumps({"SECRET" * 1_000: 1}).encode(),
]


@pytest.mark.parametrize("path", ["/predict", "/predict_batch", "/explain"])
@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:16]))
def test_invalid_bodies_get_a_short_4xx_and_a_warning_that_do_not_repeat_them(
    server: Server, path: str, body: bytes
) -> None:
    answer = CLIENT.post(f"{server.url}{path}", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert set(answer.json()) == {"error", "detail"}
    assert len(answer.text) < 4_096
    assert "SECRET" not in answer.text
    assert "http" not in answer.text
    request_id = answer.headers["x-request-id"]
    wait_until(lambda: request_id in server.log.read_text())
    log = server.log.read_text()
    (line,) = [line for line in log.splitlines() if request_id in line]
    assert re.search(rf"\[WARNING\].* {path} {answer.status_code}: the ", line)
    assert "SECRET" not in log


def test_reading_a_body_in_chunks_stops_at_the_limit() -> None:
    sizes = iter([60, 40, 1, 1])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b" " * next(sizes), "more_body": True}

    with pytest.raises(RefusedError, match="larger than 100 bytes"):
        asyncio.run(read_body({"headers": [(b"content-type", b"application/json")]}, receive, 100))
    assert list(sizes) == [1]


def test_a_body_in_a_hundred_thousand_chunks_is_read(server: Server) -> None:
    body = json.dumps(CURL_CHAT).encode().ljust(100_000)
    chunks = b"".join(b"1\r\n" + body[at : at + 1] + b"\r\n" for at in range(len(body))) + b"0\r\n\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    assert exchange(server.url, head + CHUNKED + chunks).status == 200


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    """With all of its checks, on the whole specification."""
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        "--config-file",
        f"{ROOT}/tests/faults/schemathesis.toml",
    ]
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
