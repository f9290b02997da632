"""The Compose file, on a real Docker engine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CURL_CHAT, ROOT, free_port, is_ready, send, wait_until
from tests.engine import docker, inspect

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("image")]
NAME = "turing-test-service"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """Copy the Compose file to a folder of its own, so that no `.env` of the developer's is read."""
    if NAME in docker("ps", "-a", "--format", "{{.Names}}").split():
        pytest.fail(f"there is a container {NAME} already; these tests make their own: `docker compose down` first")
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    yield tmp_path
    docker("compose", "down", "--volumes", cwd=tmp_path, check=False)


def compose(project: Path, *arguments: str) -> str:
    return docker("compose", *arguments, cwd=project)


def health() -> str:
    return str(inspect(NAME)["State"]["Health"]["Status"])


def test_it_runs_as_described(project: Path) -> None:
    port = free_port()
    (project / ".env").write_text(f"PORT={port}\n")
    compose(project, "up", "-d")
    url = f"http://localhost:{port}"
    wait_until(lambda: is_ready(url))
    assert send(f"{url}/predict", CURL_CHAT).status == 200
    message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    assert send(f"{url}/predict", message).status == 200

    running = inspect(NAME)
    assert running["HostConfig"]["Memory"] == 4 * 2**30
    assert running["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert list(running["NetworkSettings"]["Networks"]) == ["student_net"]
    assert inspect("student_net")["Driver"] == "bridge"
    wait_until(lambda: health() == "healthy")

    assert NAME in compose(project, "ps")
    assert "Starting" in compose(project, "logs")
    assert compose(project, "exec", "-T", NAME, "id", "-u") != "0"
    for stop, start in (("stop", "start"), ("restart", None)):
        compose(project, stop)
        if start:
            assert inspect(NAME)["State"]["ExitCode"] == 0
            compose(project, start)
        wait_until(lambda: is_ready(url))
        assert send(f"{url}/predict", CURL_CHAT).status == 200
    compose(project, "down")
    assert NAME not in docker("ps", "-a", "--format", "{{.Names}}").split()


def test_it_needs_no_env_file(project: Path) -> None:
    """Without `.env` the port outside is 443."""
    assert 'published: "443"' in compose(project, "config")


def test_a_variable_of_the_shell_comes_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".env").write_text("PORT=1111\n")
    monkeypatch.setenv("PORT", "8443")
    shown = compose(project, "config")
    assert 'published: "8443"' in shown
    assert "target: 8000" in shown


def test_the_profile_adds_postgresql(project: Path) -> None:
    assert "postgres" not in compose(project, "config", "--services").split()
    assert set(compose(project, "--profile", "postgres", "config", "--services").split()) == {NAME, "postgres"}
    shown = compose(project, "--profile", "postgres", "config")
    assert "pg_isready" in shown
    assert "condition: service_healthy" in shown
