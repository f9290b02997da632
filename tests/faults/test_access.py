"""Who may ask for what, from where, and what the service tells to whom."""

import hmac
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from playwright.sync_api import Request, expect, sync_playwright

from serving.access import Access
from serving.errors import RefusedError
from tests.conftest import CURL_CHAT, ROOT, Answer, Server, find_chromium, running, send, start_server
from tests.test_swagger import OPTIONS

pytestmark = pytest.mark.faults
KEYS = "first-key, второй-ключ"
PREDICTIONS = ["/predict", "/predict_batch", "/explain"]
OTHERS = ["/metrics", "/", "/docs.json", "/static_content/swagger-ui.css"]


def get(url: str, method: str = "GET", **headers: str) -> tuple[Answer, dict[str, str]]:
    """Ask with headers; returns the answer and its headers in lower case."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, headers=named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Answer(response.status, response.read().decode()), {
                k.lower(): v for k, v in response.headers.items()
            }
    except HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode()), {k.lower(): v for k, v in error.headers.items()}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("guarded"), API_KEYS=KEYS) as started:
        yield started


@pytest.mark.parametrize("path", [*PREDICTIONS, *OTHERS])
@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer wrong", "Bearer first-ke", "Basic first-key", "first-key", "Bearer "]
)
def test_without_a_key_there_is_nothing(guarded: Server, path: str, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization is not None else {}
    answer, sent = get(f"{guarded.url}{path}", "POST" if path in PREDICTIONS else "GET", **headers)
    assert answer.status == 401
    assert sent["www-authenticate"] == "Bearer"
    assert set(answer.json) == {"error", "detail"}


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("authorization", ["Bearer first-key", "bearer  first-key"])
def test_with_a_key_there_is(guarded: Server, path: str, authorization: str) -> None:
    assert get(f"{guarded.url}{path}", Authorization=authorization)[0].status == 200


@pytest.mark.parametrize("path", ["/schema.json", "/livez", "/readyz", "/healthz"])
def test_health_needs_no_key(guarded: Server, path: str) -> None:
    assert get(f"{guarded.url}{path}")[0].status == 200


@pytest.mark.parametrize("key", [key.strip() for key in KEYS.split(",")])
def test_each_key_scores(guarded: Server, key: str) -> None:
    sent = key.encode().decode("latin-1")  # a header has no encoding of its own: these are the key's UTF-8 bytes
    answer, _ = get(f"{guarded.url}/predict", "POST", Authorization=f"Bearer {sent}", Content_Type="application/json")
    assert answer.status == 400, "it was let in, without a body"


def test_the_python_client_brings_a_key(guarded: Server) -> None:
    script = (
        f"import bentoml\nwith bentoml.SyncHTTPClient({guarded.url!r}, token='first-key') as client:\n"
        f"    print(client.predict({CURL_CHAT}))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert "is_bot_probability" in done.stdout


def test_the_specification_says_that_a_key_is_needed(guarded: Server) -> None:
    spec = get(f"{guarded.url}/docs.json", Authorization="Bearer first-key")[0].json
    assert spec["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert "401" in spec["paths"]["/predict"]["post"]["responses"]
    assert spec["paths"]["/predict"]["post"]["security"] == [{"key": []}]
    assert "security" not in spec["paths"]["/readyz"]["get"]


def test_the_log_says_who_may_ask_and_names_no_key(guarded: Server, server: Server) -> None:
    assert "Access: predictions need one of 2 API keys; metrics and docs need one as well" in guarded.log.read_text()
    assert "first-key" not in guarded.log.read_text()
    assert "Access: predictions, metrics and docs are open to everyone" in server.log.read_text()


def test_a_switch_opens_metrics_and_docs(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one-key\nanother-key\n")
    with running(tmp_path, API_KEYS_FILE=str(file), OPEN_METRICS_AND_DOCS="true") as served:
        assert [get(f"{served.url}{path}")[0].status for path in OTHERS] == [200] * len(OTHERS)
        assert [get(f"{served.url}{path}", "POST")[0].status for path in PREDICTIONS] == [401] * len(PREDICTIONS)
        answer, _ = get(f"{served.url}/predict", "POST", Authorization="Bearer another-key")
        assert answer.status == 415
        assert "need one of 2 API keys; metrics and docs are open" in served.log.read_text()


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key, also behind the matching one, by the function that takes as long for any two digests."""
    access = Access(["one", "two", "three"])
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return real(first, second)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    access.check({"path": "/predict", "headers": [(b"authorization", b"Bearer one")]})
    assert len(compared) == 3
    assert {len(part) for pair in compared for part in pair} == {32}
    with pytest.raises(RefusedError):
        access.check({"path": "/predict", "headers": [(b"authorization", b"Bearer four")]})
    assert len(compared) == 6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_BODY_BYTES", "1MB"),
        ("MAX_CONCURRENCY", "0"),
        ("WORKERS", "-1"),
        ("API_KEYS", ","),
        ("HISTORY_DAYS", "-1"),
        ("HISTORY_DAYS", "inf"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(tmp_path: Path, name: str, value: str) -> None:
    server = start_server(tmp_path, **{name: value})
    assert server.process.wait(timeout=30) != 0
    (line,) = server.log.read_text().splitlines()
    assert name in line


def test_paths_that_are_not_there_make_no_metrics(server: Server) -> None:
    def count() -> int:
        return len([line for line in get(f"{server.url}/metrics")[0].text.splitlines() if not line.startswith("#")])

    for path in ("/nothing", "/predict/nothing"):
        assert get(f"{server.url}{path}")[0].status == 404
        assert get(f"{server.url}{path}", "POST")[0].status == 404
    assert set(get(f"{server.url}/nothing")[0].json) == {"error", "detail"}
    for _ in range(20):  # of each worker
        get(f"{server.url}/nothing")
    before = count()
    for number in range(200):
        get(f"{server.url}/nothing/{number}?{number}")
        get(f"{server.url}/static_content/{number}")
        get(f"{server.url}/predict{number}", "POST")
    assert count() == before
    assert not re.search(r'endpoint="/nothing|endpoint="/predict\d', get(f"{server.url}/metrics")[0].text)


def test_other_methods(server: Server) -> None:
    answer, headers = get(f"{server.url}/predict")
    assert answer.status == 405
    assert headers["allow"] == "POST"
    assert set(answer.json) == {"error", "detail"}


ORIGIN = "https://game.example"


def test_other_origins_are_not_let_in_by_default(server: Server) -> None:
    _, headers = get(f"{server.url}/livez", Origin=ORIGIN)
    assert "access-control-allow-origin" not in headers


def test_origins_that_are_named_are_let_in(tmp_path: Path) -> None:
    with running(tmp_path, CORS_ORIGINS=f"https://other.example, {ORIGIN}", API_KEYS="key") as served:
        asked = {
            "Access_Control_Request_Method": "POST",
            "Access_Control_Request_Headers": "authorization,content-type",
        }
        answer, headers = get(f"{served.url}/predict", "OPTIONS", Origin=ORIGIN, **asked)
        assert (answer.status, headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert get(f"{served.url}/predict", "OPTIONS", Origin="https://evil.example", **asked)[0].status == 400
        answer, headers = get(f"{served.url}/predict", "POST", Origin=ORIGIN)
        assert (answer.status, headers["access-control-allow-origin"]) == (401, ORIGIN), "an error can be read, too"


@pytest.mark.browser
def test_swagger_ui_loads_nothing_from_outside(server: Server) -> None:
    """Under a name that is not localhost, for which Swagger UI would ask its validator."""
    asked: list[Request] = []
    complaints: list[str] = []
    port = server.url.rsplit(":", 1)[1]
    with sync_playwright() as playwright:
        options = [*OPTIONS, "--host-resolver-rules=MAP bots.example 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"http://bots.example:{port}/")
        expect(page.locator("[data-path='/predict']")).to_be_visible()
        page.wait_for_load_state("networkidle")
        browser.close()
    assert len(asked) >= 4
    assert {
        url for request in asked if not (url := request.url).startswith(("data:", f"http://bots.example:{port}/"))
    } == set()
    assert complaints == [], "nor was anything kept back by the page's policy"


def test_nothing_on_the_page_is_from_elsewhere(server: Server) -> None:
    answer, headers = get(f"{server.url}/")
    assert "http" not in answer.text
    assert "default-src 'none'" in headers["content-security-policy"]


def test_telemetry_is_off(tmp_path: Path) -> None:
    """Where nothing else turns it off; BentoML's own switch for debugging shows what would be sent."""
    with running(tmp_path, BENTOML_DO_NOT_TRACK="False", __BENTOML_DEBUG_USAGE="True") as served:
        assert send(f"{served.url}/predict", CURL_CHAT).status == 200
    assert "Tracking Payload" not in served.log.read_text()
    plain = "import bentoml._internal.utils.analytics.usage_stats as usage; print(usage.do_not_track())"
    for code, is_off in ((plain, False), (f"import service; {plain}", True)):
        shown = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"BENTOML_DO_NOT_TRACK": "False"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout.strip() == str(is_off)
