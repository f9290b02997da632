"""The service behind real clients and a real proxy: curl with HTTP/2, Java, Python's urllib, nginx."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import CURL_CHAT, Server, find_nginx, free_port, is_ready, running, send, wait_until
from tests.faults.client import long_chat
from tests.faults.conftest import Process, connect
from tests.wire import Response, read_response

pytestmark = pytest.mark.faults
BODY = json.dumps(CURL_CHAT)
KEY = "first-key"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), WORKERS="1") as started:
        yield started


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run the service with a key, one worker that answers one request at a time, and short-lived idle connections."""
    settings = {"API_KEYS": KEY, "MAX_CONCURRENCY": "1", "WORKERS": "1", "KEEP_ALIVE_SECONDS": "2"}
    with running(tmp_path_factory.mktemp("guarded"), **settings) as started:
        yield started


def curl(*arguments: str, body: str) -> list[str]:
    """Run curl with a body from its standard input; returns the lines that it printed."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "-H", "Content-Type: application/json"]
    done = subprocess.run([*command, *arguments], input=body, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# Upgrades


@pytest.mark.curl
@pytest.mark.parametrize("framing", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_curl_offering_http2_is_answered_on_one_connection(server: Server, framing: list[str]) -> None:
    options = ["--http2", *framing, "-w", "\n%{http_code} %{num_connects}\n", "-d", "@-"]
    lines = curl(*options, *[f"{server.url}/predict"] * 2, body=BODY)
    assert lines[1::2] == ["200 1", "200 0"], "the second request takes the same connection"
    assert all(len(json.loads(line)["participants"]) == 2 for line in lines[::2])


@pytest.mark.curl
def test_curl_offering_http2_and_waiting_for_100_is_answered(server: Server) -> None:
    body = json.dumps(CURL_CHAT).ljust(1_040_000)  # curl expects 100 from 1 MB on (1,024 bytes before version 7.84)
    options = ["--http2", "-H", "Expect: 100-continue", "-w", "\n%{http_code}", "-d", "@-"]
    assert curl(*options, f"{server.url}/predict", body=body)[-1] == "200"
    assert curl(*options, f"{server.url}/predict", body=body * 5)[-1] == "413"


JAVA = """
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Client {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        byte[] body = arguments[1].getBytes("UTF-8");
        for (int at = 0; at < 4; at++) {
            var publisher = at % 2 == 0
                ? HttpRequest.BodyPublishers.ofByteArray(body)
                : HttpRequest.BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0]))
                .header("Content-Type", "application/json").POST(publisher).build();
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
        }
    }
}
"""


@cache
def has_java() -> bool:
    """Tell whether there is a Java that runs a source file."""
    if shutil.which("java") is None:
        return False
    return (
        "jdk.compiler" in subprocess.run(["java", "--list-modules"], capture_output=True, text=True, check=True).stdout
    )


@pytest.mark.skipif(
    not has_java(), reason="no Java with a compiler is installed here; curl and raw sockets do the same"
)
def test_the_http_client_of_java_is_answered(server: Server, tmp_path: Path) -> None:
    """It offers h2c with each request; bodies have a length or come in chunks."""
    source = tmp_path / "Client.java"
    source.write_text(JAVA)
    command = ["java", str(source), f"{server.url}/predict", BODY]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["200"] * 4, done.stdout + done.stderr


# Early responses


@pytest.mark.parametrize("size", [1_200_000, 5_000_000, 20_000_000])
def test_urllib_gets_the_413(server: Server, size: int) -> None:
    """It writes the whole body before it reads."""
    for _ in range(20):
        answer = send(f"{server.url}/predict", raw=b"x" * size)
        assert answer.status == 413
        assert answer.json == {"error": "the body is larger than 1048576 bytes", "detail": []}


def write_before_reading(server: Server, head: str, body: bytes) -> Response:
    """Send a request in whole, then read the response, which has to be the last one of its connection."""
    with connect(Process(server)) as client, client.makefile("rb") as stream:
        client.sendall(head.encode() + b"\r\n" + body)
        response = read_response(stream)
        assert response.headers["connection"] == "close"
        assert stream.read() == b""
        return response


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (401, "POST /predict HTTP/1.1\r\nContent-Type: application/json\r\n"),
        (404, f"POST /nothing HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n"),
        (405, f"POST /metrics HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n"),
        (413, f"POST /predict HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"),
        (415, f"POST /predict HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nContent-Type: text/plain\r\n"),
        (431, "GET / HTTP/1.1\r\nX: " + "y" * 5_000_000 + "\r\n"),
    ],
)
def test_errors_reach_a_client_that_is_still_sending(guarded: Server, status: int, head: str) -> None:
    for _ in range(5):
        response = write_before_reading(guarded, f"{head}Content-Length: 5000000\r\n", b"x" * 5_000_000)
        assert response.status == status
        assert set(json.loads(response.body)) == {"error", "detail"}


def test_429_reaches_a_client_that_is_still_sending(guarded: Server) -> None:
    authorization = f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    long = long_chat(60_000)
    with connect(Process(guarded)) as client:
        client.sendall(f"POST /explain HTTP/1.1\r\n{authorization}Content-Length: {len(long)}\r\n\r\n".encode() + long)
        time.sleep(0.3)
        for _ in range(3):
            head = f"POST /predict HTTP/1.1\r\n{authorization}Content-Length: 5000000\r\n"
            assert write_before_reading(guarded, head, b"x" * 5_000_000).status == 429


def test_408_reaches_a_client_that_is_still_sending(server: Server) -> None:
    with connect(Process(server)) as client, client.makefile("rb") as stream:
        head = "POST /predict HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
        client.sendall(head.encode())
        for _ in range(70):
            client.sendall(b"x" * 10_000)
            time.sleep(0.1)
        response = read_response(stream)
        assert (response.status, response.headers["connection"]) == (408, "close")
        assert stream.read() == b""


def test_a_flood_of_bodies_costs_no_memory_and_holds_up_nobody(server: Server) -> None:
    before = Process(server).memory()
    flooding = threading.Event()

    def flood() -> None:
        head = b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
        while not flooding.is_set():
            with connect(Process(server)) as client:
                try:
                    client.sendall(head)
                    while not flooding.is_set():
                        client.sendall(b"x" * 60_000)
                except OSError:
                    pass  # the limit of what is discarded

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        waits = []
        for _ in range(50):
            begin = time.monotonic()
            assert send(f"{server.url}/predict", CURL_CHAT).status == 200
            waits.append(time.monotonic() - begin)
            assert Process(server).memory() < before + 30e6
    finally:
        flooding.set()
        for thread in threads:
            thread.join()
    assert sorted(waits)[25] < 1


# nginx


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
  upstream service {{ server 127.0.0.1:{upstream}; {keepalive} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://service;
      {options}
    }}
  }}
}}
"""
PROXIES = {
    "defaults": ("", ""),
    "kept connections": ("keepalive 8;", 'proxy_http_version 1.1; proxy_set_header Connection "";'),
    "unbuffered": (
        "keepalive 8;",
        'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;',
    ),
}


@pytest.fixture(params=list(PROXIES))
def proxy(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[str]:
    """Run nginx in front of the service; returns its URL."""
    keepalive, options = PROXIES[request.param]
    port, upstream = free_port(), urlsplit(server.url).port
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, port=port, upstream=upstream, keepalive=keepalive, options=options))
    process = subprocess.Popen([str(find_nginx()), "-p", str(tmp_path), "-c", str(config)])
    try:
        wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"), 10)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.nginx
def test_a_proxy_hands_on_the_413(proxy: str) -> None:
    """It makes a 502 of a connection that is reset."""
    for size in (1_200_000, 5_000_000, 20_000_000):
        statuses = [send(f"{proxy}/predict", raw=b"x" * size).status for _ in range(10)]
        assert statuses == [413] * 10, size
        assert send(f"{proxy}/predict", CURL_CHAT).status == 200


# Idle connections


def test_an_idle_connection_is_kept_for_longer_than_uvicorn_would(server: Server) -> None:
    with connect(Process(server)) as client, client.makefile("rb") as stream:
        for _ in range(2):
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(stream).status == 200
            time.sleep(6.5)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)


def test_idle_connections_are_kept_for_as_long_as_set(guarded: Server) -> None:
    with connect(Process(guarded)) as client, client.makefile("rb") as stream:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(stream).status == 200
        begin = time.monotonic()
        assert stream.read() == b""
        assert 1.8 < time.monotonic() - begin < 4
