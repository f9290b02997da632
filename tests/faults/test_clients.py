"""Real clients and a real proxy, overload, and clients that are slow, idle or gone: everyone else is served.

All of them use one server, with one worker.
"""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from models.chat import Chat
from models.classifier import Classifier
from tests.conftest import (
    CURL_CHAT,
    Reply,
    Server,
    answering,
    find,
    free_port,
    running,
    send,
    start,
    wait_until,
)
from tests.faults.client import Connection, closed_loop, long_chat
from tests.wire import sent_before_the_end

pytestmark = pytest.mark.faults
BODY = json.dumps(CURL_CHAT)
LIMIT = 16  # MAX_CONCURRENCY
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), WORKERS="1", MAX_CONCURRENCY=str(LIMIT)) as started:
        yield started


@pytest.mark.curl
@pytest.mark.parametrize(
    ("header", "size", "printed"),
    [
        ("X: a body with a length", 0, ["200 1", "200 0"]),
        ("Transfer-Encoding: chunked", 0, ["200 1", "200 0"]),
        ("Expect: 100-continue", 1_040_000, ["200 1", "200 0"]),
        ("Expect: 100-continue", 5_000_000, ["413 1", "413 1"]),
    ],
)
def test_curl_offering_http2_is_answered(server: Server, header: str, size: int, printed: list[str]) -> None:
    """Twice, by its status and the number of connections that it opened: one for both unless the first ends early."""
    command = ["curl", "--http2", "-H", "Content-Type: application/json", "-H", header, "-d", "@-"]
    command += ["--silent", "--show-error", "--max-time", "20", "-w", "\n%{http_code} %{num_connects}\n"]
    urls = [f"{server.url}/predict"] * 2
    done = subprocess.run([*command, *urls], input=BODY.ljust(size), capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout.splitlines()[1::2]) == ("", printed)


NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_max_body_size 64m;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream service {{ server 127.0.0.1:{upstream}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_request_buffering {buffering};
    }}
  }}
}}
"""


@pytest.fixture(params=["direct", *(pytest.param(buffering, marks=pytest.mark.nginx) for buffering in ("on", "off"))])
def url(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[str]:
    """Return the URL of the service, or of an nginx in front of it, with its buffering of requests on or off."""
    if request.param == "direct":
        yield server.url
        return
    port, upstream = free_port(), urlsplit(server.url).port
    config, log = tmp_path / "nginx.conf", tmp_path / "nginx.log"
    config.write_text(NGINX.format(folder=tmp_path, port=port, upstream=upstream, buffering=request.param))
    process = start(log, [str(find("nginx")), "-p", str(tmp_path), "-c", str(config)])
    with answering(f"http://127.0.0.1:{port}", log, process) as url:
        yield url


@pytest.mark.parametrize("size", [1_200_000, 5_000_000, 20_000_000])
def test_a_client_that_writes_before_it_reads_gets_the_413(url: str, size: int) -> None:
    """http.client, on which urllib and requests are built, does; nginx makes a 502 of a connection that is reset."""
    for _ in range(10):
        client = HTTPConnection(urlsplit(url).netloc, timeout=20)
        client.request("POST", "/predict", b"x" * size, {"Content-Type": "application/json"})
        response = client.getresponse()
        assert response.status == 413
        assert json.load(response) == {"error": "the body is larger than 1048576 bytes", "detail": []}
        client.close()
    assert send(f"{url}/predict", CURL_CHAT).status == 200


def test_a_flood_of_bodies_costs_no_memory_and_holds_up_nobody(server: Server) -> None:
    before = server.memory()
    endless = b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"

    def flood(_: int) -> None:
        with server.connect() as client:
            sent_before_the_end(client, endless, b"x" * 60_000)

    with ThreadPoolExecutor(8) as clients:
        flooding = [clients.submit(flood, number) for number in range(80)]
        while not all(one.done() for one in flooding):
            assert send(f"{server.url}/predict", CURL_CHAT).status == 200
            assert server.memory() < before + 30e6


def test_with_more_clients_than_its_limit_the_service_answers_or_rejects(
    server: Server, classifier: Classifier
) -> None:
    """Four times as many clients as the limit, for some seconds; afterwards it serves as before."""

    async def ask(connection: Connection) -> Reply:
        return await connection.post("/predict", BODY.encode())

    asyncio.run(closed_loop(server.url, LIMIT, 3, ask))
    memory = server.memory()
    replies = asyncio.run(closed_loop(server.url, 4 * LIMIT, 4, ask))
    for part in np.array_split(np.array([reply.status for reply in replies]), 5):
        assert set(part.tolist()) == {200, 429}, "from the first fifth of the replies to the last one"
    (expected,) = classifier.predict([Chat.model_validate(CURL_CHAT)])
    right = pytest.approx([side.is_bot_probability for side in expected.participants], abs=1e-9)
    answers = [reply.json["participants"] for reply in replies if reply.status == HTTPStatus.OK]
    assert all([side["is_bot_probability"] for side in sides] == right for sides in answers)
    assert server.memory() < 1.1 * memory
    wait_until(lambda: send(f"{server.url}/predict", CURL_CHAT).status == HTTPStatus.OK)


def test_bodies_that_arrive_together_count_towards_the_limit(server: Server) -> None:
    """As requests do that begin together."""
    body = long_chat(3_000)
    head = HEAD.replace(b"/predict", b"/explain").replace(b"500", str(len(body)).encode())
    with ExitStack() as connections:
        clients = [connections.enter_context(server.connect()) for _ in range(3 * LIMIT)]
        for client in clients:
            client.sendall(head + body[:-1])
        assert send(f"{server.url}/livez").status == 200  # so that all heads have been read
        for client in clients:
            client.sendall(body[-1:])
        assert {client.recv(12) for client in clients} == {b"HTTP/1.1 200", b"HTTP/1.1 429"}


@pytest.mark.parametrize(("path", "words"), [("/explain", 25_000), ("/predict", 60_000)])
def test_others_are_answered_while_a_long_chat_is_scored_or_explained(server: Server, path: str, words: int) -> None:
    """It takes half a second or more, in which other requests are answered."""
    with ThreadPoolExecutor(1) as other:
        long = other.submit(send, f"{server.url}{path}", raw=long_chat(words))
        answered = 0
        while not long.done():
            assert send(f"{server.url}/predict", CURL_CHAT).status == 200
            answered += 1
        assert long.result().status in (200, 503), "503 where the machine is too busy for it"
        assert answered > 5


@pytest.mark.parametrize(
    "sent", [b"", HEAD[:30], HEAD, HEAD + b'{"chat_id'], ids=["nothing", "head", "no body", "body"]
)
def test_idle_clients_do_not_count_towards_the_limit(server: Server, sent: bytes) -> None:
    """500 connections that stop sending, many more than the limit, and a client that is served."""
    with ExitStack() as connections:
        waiting = [connections.enter_context(server.connect()) for _ in range(500)]
        for client in waiting:
            client.sendall(sent)
        for _ in range(20):
            assert send(f"{server.url}/predict", CURL_CHAT).status == 200


def test_clients_that_hang_up_do_not_count_towards_the_limit(server: Server) -> None:
    """They hang up in the middle of the body or while their request is being answered."""
    head = HEAD.replace(b"500", str(len(BODY)).encode())
    for sent in (HEAD + b'{"chat', head + BODY.encode()):
        for _ in range(50):
            with server.connect() as client:
                client.sendall(sent)
    wait_until(lambda: send(f"{server.url}/predict", CURL_CHAT).status == HTTPStatus.OK)
    assert "Traceback" not in server.log.read_text()
