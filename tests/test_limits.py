"""What is too much: each limit from both sides, and bodies that mean harm."""

import http.client
import json
import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from models.chat import MAX_CHATS, MAX_EXPLAINED, MAX_MESSAGES
from tests.conftest import CURL_CHAT, Server, send


def said(number: int = 1, **fields: Any) -> dict[str, Any]:
    messages = [{"message_id": at, "text": "hi", "participant_id": at % 2, **fields} for at in range(number)]
    return {"chat_id": 1, "messages": messages}


def crowd(number: int) -> dict[str, Any]:
    return {"chat_id": 1, "messages": [{"message_id": at, "text": "hi", "participant_id": at} for at in range(number)]}


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/predict", said(MAX_MESSAGES), 200, None),
        ("/predict", said(MAX_MESSAGES + 1), 400, "messages"),
        ("/predict", said(text="x" * 8_000), 200, None),
        ("/predict", said(text="x" * 8_001), 400, "messages[0].text"),
        ("/predict", said(participant_id="x" * 128), 200, None),
        ("/predict", said(participant_id="x" * 129), 400, "messages[0].participant_id"),
        ("/predict", said(participant_id=2**63), 400, "messages[0].participant_id"),
        ("/predict", said(2, message_id=7), 400, "messages"),
        ("/predict", said(text=None), 400, "messages[0].text"),
        ("/predict_batch", {"chats": [CURL_CHAT] * MAX_CHATS}, 200, None),
        ("/predict_batch", {"chats": [CURL_CHAT] * (MAX_CHATS + 1)}, 400, "chats"),
        ("/predict_batch", {"chats": [CURL_CHAT, {}, CURL_CHAT]}, 400, "chats[1].chat_id"),
        ("/predict", crowd(MAX_EXPLAINED + 1), 200, None),
        ("/explain", crowd(MAX_EXPLAINED), 200, None),
        ("/explain", crowd(MAX_EXPLAINED + 1), 400, "messages"),
    ],
)
def test_limits(server: Server, path: str, body: Any, status: int, field: str | None) -> None:
    answer = send(f"{server.url}{path}", body)
    assert answer.status == status
    assert field is None or field in [part["field"] for part in answer.json["detail"]]


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
def test_bad_bodies_are_the_clients_fault(server: Server, path: str, body: bytes) -> None:
    answer = send(f"{server.url}{path}", raw=body)
    assert 400 <= answer.status < 500
    assert set(answer.json) == {"error", "detail"}
    assert len(answer.text) < 4_096
    assert "SECRET" not in answer.text
    assert "http" not in answer.text


def test_the_log_has_a_line_for_each_and_no_text(server: Server) -> None:
    before = server.log.read_text()
    send(f"{server.url}/predict", raw=BAD_BODIES[-2])
    new = server.log.read_text()[len(before) :]
    assert len(new.splitlines()) == 1
    assert "SECRET" not in new


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/octet-stream", "multipart/form-data; boundary=x", ""]
)
def test_only_json(server: Server, content_type: str) -> None:
    body = json.dumps(CURL_CHAT).encode()
    assert send(f"{server.url}/predict", raw=body, content_type=content_type).status == 415


def test_a_body_that_says_it_is_too_large_is_not_read(server: Server) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_is_cut_off_at_the_limit(server: Server) -> None:
    address = urlsplit(server.url)
    sent = 0
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)) as connection:
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        try:
            for _ in range(2_000):
                connection.send(b"10000\r\n" + b" " * 65_536 + b"\r\n")
                sent += 65_536
        except (ConnectionError, TimeoutError):
            pass
    assert sent < 100 * 2**20
    assert send(f"{server.url}/predict", CURL_CHAT).status == 200
