"""Access: API keys, other origins, unknown paths, and what the service reveals."""

import hmac
import re
from collections.abc import Iterator
from unittest.mock import Mock

import bentoml
import httpx
import pytest
from bentoml.exceptions import BentoMLException

from serving.errors import RefusedError
from serving.http.access import Access
from tests.conftest import CLIENT, CURL_CHAT, Server, running

pytestmark = pytest.mark.faults
PREDICTIONS = ["/predict", "/predict_batch", "/explain"]
OTHERS = ["/metrics", "/", "/docs.json", "/static_content/swagger-ui.css"]
OPEN = ["/schema.json", "/livez", "/readyz", "/healthz", "/try"]
AUTHORIZATIONS = {
    **dict.fromkeys(["", "Bearer", "Bearer wrong", "Bearer first-ke", "Basic first-key", "first-key"], False),
    **dict.fromkeys(["Bearer first-key", "bearer  first-key", "Bearer второй-ключ"], True),
}
ORIGIN = "https://game.example"


def ask(url: str, method: str = "GET", **headers: str) -> httpx.Response:
    """Send a request with headers (as UTF-8) and without a body."""
    encoded = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return CLIENT.request(method, url, headers=encoded)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server with keys and another origin.

    The environment does not turn BentoML's telemetry off; its debugging variable would print what is sent.
    """
    settings = {"API_KEYS": "first-key, второй-ключ", "CORS_ORIGINS": f"https://other.example, {ORIGIN}"}
    telemetry = {"BENTOML_DO_NOT_TRACK": "False", "__BENTOML_DEBUG_USAGE": "True"}
    with running(tmp_path_factory.mktemp("guarded"), **settings, **telemetry) as started:
        yield started


@pytest.mark.parametrize("path", [*PREDICTIONS, *OTHERS, *OPEN])
@pytest.mark.parametrize(("authorization", "is_valid"), AUTHORIZATIONS.items())
def test_a_valid_key_gives_access(guarded: Server, path: str, authorization: str, is_valid: bool) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = ask(f"{guarded.url}{path}", "POST" if path in PREDICTIONS else "GET", **headers)
    if is_valid or path in OPEN:
        assert answer.status_code == (415 if path in PREDICTIONS else 200)
    else:
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_the_python_client_sends_the_key(guarded: Server) -> None:
    with bentoml.SyncHTTPClient(guarded.url) as client, pytest.raises(BentoMLException) as missing:
        client.predict(CURL_CHAT)
    assert missing.value.error_code == 401
    assert "an API key is required" in str(missing.value)
    with bentoml.SyncHTTPClient(guarded.url, token="first-key") as client:  # noqa: S106
        assert client.predict(CURL_CHAT)["chat_id"] == 42


def test_the_specification_documents_the_key(guarded: Server) -> None:
    spec = ask(f"{guarded.url}/docs.json", Authorization="Bearer first-key").json()
    assert spec["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert "401" in spec["paths"]["/predict"]["post"]["responses"]
    assert spec["security"] == [{"key": []}]


def test_the_log_says_who_has_access_and_contains_no_key(guarded: Server, server: Server) -> None:
    assert "Access: predictions need one of 2 API keys; metrics and docs need one as well" in guarded.log.read_text()
    assert "first-key" not in guarded.log.read_text()
    assert "Access: predictions, metrics and docs are open to everyone" in server.log.read_text()


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


@pytest.mark.parametrize("path", ["/nothing", "/predict/nothing", "/predictnothing/", "/static_content/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_paths_add_no_metrics(server: Server, path: str, method: str) -> None:
    assert ask(f"{server.url}{path}?nothing", method).status_code == 404
    metrics = ask(f"{server.url}/metrics").text
    assert 'endpoint="/404"' in metrics
    assert "nothing" not in metrics


@pytest.mark.parametrize(
    ("path", "place"),
    [("/predict/", "/predict"), ("/predict/?a=b", "/predict?a=b"), ("/metrics/", "/metrics"), ("//", "/")],
)
def test_a_trailing_slash_is_redirected_and_adds_no_metrics(server: Server, path: str, place: str) -> None:
    url = httpx.URL(server.url).copy_with(raw_path=path.encode())  # as it is
    answer = CLIENT.post(url)
    assert (answer.status_code, answer.headers["location"]) == (307, place)
    assert re.findall(r'endpoint="[^"]+/"', ask(f"{server.url}/metrics").text) == []


def test_configured_origins_have_access(guarded: Server, server: Server) -> None:
    assert "access-control-allow-origin" not in ask(f"{server.url}/livez", Origin=ORIGIN).headers, (
        "by default, no other"
    )
    preflight = {
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Headers": "authorization,content-type",
    }
    for path, status in (("/predict", 401), ("/predict/", 307)):
        allowed = ask(f"{guarded.url}{path}", "OPTIONS", Origin=ORIGIN, **preflight)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, ORIGIN)
        answer = ask(f"{guarded.url}{path}", "POST", Origin=ORIGIN)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
        assert answer.headers["access-control-expose-headers"] == "Retry-After, X-Request-ID", (
            "the page can read errors"
        )
    refused = ask(f"{guarded.url}/predict", "OPTIONS", Origin="https://evil.example", **preflight)
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


def test_telemetry_is_off(guarded: Server) -> None:
    assert "Tracking Payload" not in guarded.log.read_text()


def test_two_services_on_one_machine_keep_their_own_metrics(guarded: Server, server: Server) -> None:
    def counted(served: Server) -> float:
        metrics = ask(f"{served.url}/metrics", Authorization="Bearer first-key").text
        return sum(map(float, re.findall(r'request_total\{endpoint="/predict",.* (\S+)', metrics)))

    before = counted(guarded), counted(server)
    for _ in range(20):
        assert ask(f"{server.url}/predict", "POST").status_code == 415
    assert (counted(guarded), counted(server)) == (before[0], before[1] + 20)
