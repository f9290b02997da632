"""The commands that every user of Docker knows, run as they are typed; `tests/test_compose.py` has those of Compose.

The image is `turing_test_service`. Two things differ from what is typed: ports and names are the tests' own, and
commands that would reach every container of the machine are narrowed to those of the tests with `--filter`.
"""

import json
from pathlib import Path

import pytest

from serving.base_image import read_base
from tests.conftest import CURL_CHAT, free_port, is_ready, send, wait_until
from tests.engine import container, inspect, sh, type_in_a_terminal

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("image")]
LABEL = "turing-test-commands"


def test_from_run_with_limits_on_the_hosts_network_to_prune() -> None:
    """The service then listens on the host itself, on `PORT`, 8000 without it."""
    url = f"http://localhost:{(port := free_port())}"
    limits = "--memory=500m --cpus=1.0 --net=host"
    started = sh(f"docker run -d {limits} -e PORT={port} --label {LABEL} turing_test_service")
    try:
        assert started[:12] in sh("docker ps -a")
        wait_until(lambda: is_ready(url))
        request = f"-H 'Content-Type: application/json' -d '{json.dumps(CURL_CHAT)}'"
        answer = sh(f"curl -s -X POST {url}/predict {request}")
        assert [side["participant_id"] for side in json.loads(answer)["participants"]] == [0, 1]
        assert "Service turing_test_service initialized" in sh(f"docker logs {started}")
        assert "/ 500MiB" in sh(f"docker stats --no-stream {started}")
        python = type_in_a_terminal(f"docker exec -it {started} python --version", "")
        assert f"Python {read_base()['python_version']}" in python

        sh(f"docker rename {started} renamed-{started[:12]}")
        sh(f"docker stop $(docker ps -q --filter label={LABEL})")
        assert inspect(f"renamed-{started[:12]}")["State"]["ExitCode"] == 0
        assert started in sh(f"docker container prune --force --filter label={LABEL}")
    finally:
        sh(f"docker rm -f {started}", check=False)
    command = "docker run --rm -it turing_test_service /bin/bash"
    assert "42-is-typed" in type_in_a_terminal(command, "echo $((6 * 7))-is-typed; exit\n")


def test_run_with_a_volume(tmp_path: Path) -> None:
    """Somebody else's folder as `/history`: the error says what to do; then the dialogs are there afterwards."""
    tmp_path.chmod(0o755)
    refused = sh(f"docker run --rm -v {tmp_path}:/history turing_test_service", check=False).splitlines()[-1]
    assert ": /history: Permission denied for user 1034:1034" in refused
    as_root = f"docker run --rm --user 0 -v {tmp_path}:/history --entrypoint sh turing_test_service"
    sh(f"{as_root} -c '{refused.split('`')[-2]} /history'")
    with container("-v", f"{tmp_path}:/history") as started:
        message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
        assert send(f"{started.url}/predict", message).status == 200
    assert (tmp_path / "dialogs.sqlite").stat().st_size > 0
