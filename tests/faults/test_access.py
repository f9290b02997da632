"""Access: API keys, other origins, unknown paths, and what the service reveals."""

import hmac
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import bentoml
import httpx
import pytest
from bentoml.exceptions import BentoMLException

from serving.errors import RefusedError
from serving.http.access import Access
from tests.conftest import CLIENT, CURL_CHAT, Answer, Server, running, send, start_server

pytestmark = pytest.mark.faults
KEYS = "first-key, второй-ключ"
PREDICTIONS = ["/predict", "/predict_batch", "/explain"]
OTHERS = ["/metrics", "/", "/docs.json", "/static_content/swagger-ui.css"]


def get(url: str, method: str = "GET", **headers: str) -> tuple[Answer, httpx.Headers]:
    """Send a request with headers (as UTF-8) and without a body; returns the answer and its headers."""
    encoded = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    response = CLIENT.request(method, url, headers=encoded)
    return Answer(response.status_code, response.text), response.headers


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("guarded"), API_KEYS=KEYS) as started:
        yield started


@pytest.mark.parametrize("path", [*PREDICTIONS, *OTHERS])
@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer wrong", "Bearer first-ke", "Basic first-key", "first-key"]
)
def test_without_a_valid_key_the_status_is_401(guarded: Server, path: str, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization is not None else {}
    answer, sent = get(f"{guarded.url}{path}", "POST" if path in PREDICTIONS else "GET", **headers)
    assert answer.status == 401
    assert sent["www-authenticate"] == "Bearer"
    assert set(answer.json) == {"error", "detail"}


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("authorization", ["Bearer first-key", "bearer  first-key", "Bearer второй-ключ"])
def test_a_valid_key_gives_access_to_metrics_and_docs(guarded: Server, path: str, authorization: str) -> None:
    assert get(f"{guarded.url}{path}", Authorization=authorization)[0].status == 200


@pytest.mark.parametrize("path", ["/schema.json", "/livez", "/readyz", "/healthz"])
def test_health_needs_no_key(guarded: Server, path: str) -> None:
    assert get(f"{guarded.url}{path}")[0].status == 200


def test_the_python_client_sends_the_key(guarded: Server) -> None:
    with bentoml.SyncHTTPClient(guarded.url) as client, pytest.raises(BentoMLException) as missing:
        client.predict(CURL_CHAT)
    assert missing.value.error_code == 401
    assert "an API key is required" in str(missing.value)
    with bentoml.SyncHTTPClient(guarded.url, token="first-key") as client:  # noqa: S106
        assert client.predict(CURL_CHAT)["chat_id"] == 42


def test_the_specification_documents_the_key(guarded: Server) -> None:
    spec = get(f"{guarded.url}/docs.json", Authorization="Bearer first-key")[0].json
    assert spec["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert "401" in spec["paths"]["/predict"]["post"]["responses"]
    assert spec["security"] == [{"key": []}]


def test_the_log_says_who_has_access_and_contains_no_key(guarded: Server, server: Server) -> None:
    assert "Access: predictions need one of 2 API keys; metrics and docs need one as well" in guarded.log.read_text()
    assert "first-key" not in guarded.log.read_text()
    assert "Access: predictions, metrics and docs are open to everyone" in server.log.read_text()


def test_open_metrics_and_docs_need_no_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one-key\nanother-key\n")
    with running(tmp_path, API_KEYS_FILE=str(file), OPEN_METRICS_AND_DOCS="true") as served:
        assert [get(f"{served.url}{path}")[0].status for path in OTHERS] == [200] * len(OTHERS)
        assert [get(f"{served.url}{path}", "POST")[0].status for path in PREDICTIONS] == [401] * len(PREDICTIONS)
        answer, _ = get(f"{served.url}/predict", "POST", Authorization="Bearer another-key")
        assert answer.status == 415
        assert "need one of 2 API keys; metrics and docs are open" in served.log.read_text()


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All keys are compared, also those after the match, by a function whose time does not depend on the values."""
    access = Access(["one", "two", "three"])
    compare = Mock(wraps=hmac.compare_digest)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    access.check({"path": "/predict", "headers": [(b"authorization", b"Bearer one")]})
    assert compare.call_count == 3
    assert {len(part) for call in compare.call_args_list for part in call.args} == {32}
    for wrong in (b"Bearer four", b"Bearer "):
        with pytest.raises(RefusedError):
            access.check({"path": "/predict", "headers": [(b"authorization", wrong)]})
    assert compare.call_count == 9


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "-1"),
        ("HISTORY_URL", "mysql://me:s3cr3t@host/db"),
        ("HISTORY_URL", "postgresql://me:s3cr3t@host/db?sslmode=on"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_one_line(tmp_path: Path, name: str, value: str) -> None:
    server = start_server(tmp_path, **{name: value})
    assert server.exit_code() != 0
    (line,) = server.log.read_text().splitlines()
    assert f"{name}: " in line
    assert "s3cr3t" not in line


@pytest.mark.parametrize("path", ["/nothing", "/predict/nothing", "/predictnothing", "/static_content/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_paths_add_no_metrics(server: Server, path: str, method: str) -> None:
    answer, _ = get(f"{server.url}{path}?nothing", method)
    assert answer.status == 404
    assert set(answer.json) == {"error", "detail"}
    metrics = get(f"{server.url}/metrics")[0].text
    assert 'endpoint="/404"' in metrics
    assert "nothing" not in metrics


@pytest.mark.parametrize(
    ("path", "place"), [("/predict/", "/predict"), ("/predict/?a=b", "/predict?a=b"), ("/metrics/", "/metrics")]
)
def test_a_trailing_slash_is_redirected(server: Server, path: str, place: str) -> None:
    answer, headers = get(f"{server.url}{path}", "POST")
    assert (answer.status, headers["location"]) == (307, place)


ORIGIN = "https://game.example"


def test_configured_origins_have_access(tmp_path: Path, server: Server) -> None:
    assert "access-control-allow-origin" not in get(f"{server.url}/livez", Origin=ORIGIN)[1], "by default, no other has"
    with running(tmp_path, CORS_ORIGINS=f"https://other.example, {ORIGIN}", API_KEYS="key") as served:
        asked = {
            "Access_Control_Request_Method": "POST",
            "Access_Control_Request_Headers": "authorization,content-type",
        }
        answer, headers = get(f"{served.url}/predict", "OPTIONS", Origin=ORIGIN, **asked)
        assert (answer.status, headers["access-control-allow-origin"]) == (200, ORIGIN)
        answer, headers = get(f"{served.url}/predict", "OPTIONS", Origin="https://evil.example", **asked)
        assert (answer.status, answer.json) == (
            400,
            {"error": "the origin, method or header is not allowed", "detail": []},
        )
        assert "access-control-allow-origin" not in headers
        assert "a preflight request 400: the origin" in served.log.read_text()
        answer, headers = get(f"{served.url}/predict", "POST", Origin=ORIGIN)
        assert (answer.status, headers["access-control-allow-origin"]) == (401, ORIGIN)
        assert headers["access-control-expose-headers"] == "Retry-After, X-Request-ID", "the page can read errors"
        answer, headers = get(f"{served.url}/predict/", "OPTIONS", Origin=ORIGIN, **asked)
        assert (answer.status, headers["access-control-allow-origin"]) == (200, ORIGIN)
        answer, headers = get(f"{served.url}/predict/", "POST", Origin=ORIGIN)
        assert (answer.status, headers["access-control-allow-origin"]) == (307, ORIGIN)


def test_the_page_refers_to_no_other_host(server: Server) -> None:
    answer, headers = get(f"{server.url}/")
    assert "http" not in answer.text
    assert "default-src 'none'" in headers["content-security-policy"]


def test_telemetry_is_off(tmp_path: Path) -> None:
    """The environment does not turn it off; BentoML's debugging variable would print what is sent."""
    with running(tmp_path, BENTOML_DO_NOT_TRACK="False", __BENTOML_DEBUG_USAGE="True") as served:
        assert send(f"{served.url}/predict", CURL_CHAT).status == 200
    assert "Tracking Payload" not in served.log.read_text()
