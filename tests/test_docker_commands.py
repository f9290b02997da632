"""The commands that every user of Docker and Compose knows, run as they are typed.

The image is `turing_test_service`. Three things differ from what is typed: ports, names and tags are the tests' own,
commands that would reach every container of the machine are narrowed to those of the tests with `--filter`, and what is
built is tagged aside.
"""

import json
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.base_image import read_base
from tests.conftest import CURL_CHAT, ROOT, free_port, is_ready, send, wait_until
from tests.engine import NETWORK, container, inspect, registry, remove_images

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("image")]
LABEL = "turing-test-commands"
SERVICE = "turing-test-service"
PYTHON = read_base()["python_version"]


def sh(command: str, folder: Path = ROOT, **environment: str) -> str:
    """Run a command line; returns what it printed on both streams."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}"
    return done.stdout.strip()


def type_in_a_terminal(command: str, typed: bytes, folder: Path = ROOT) -> str:
    """Run a command on a terminal, type into it, and return what it shows until it ends."""
    outside, inside = pty.openpty()
    process = subprocess.Popen(["bash", "-c", command], cwd=folder, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    os.write(outside, typed)
    shown = b""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if select.select([outside], [], [], 0.2)[0]:
            try:
                shown += os.read(outside, 4096)
            except OSError:  # the other end is closed
                break
    os.close(outside)
    assert process.wait(timeout=10) == 0
    return shown.decode()


@pytest.fixture
def run() -> Iterator[str]:
    """`docker run -d -p 8000:8000 turing_test_service`; yields the ID."""
    port = free_port()
    started = sh(f"docker run -d -p {port}:8000 --label {LABEL} turing_test_service")
    wait_until(lambda: is_ready(f"http://localhost:{port}"))
    yield started
    sh(f"docker rm -f $(docker ps -aq --filter label={LABEL}) || true")


# Docker


def test_build() -> None:
    sh(f"docker build --network {NETWORK} -t turing_test_service:built .")
    with container(image="turing_test_service:built") as started:
        assert send(f"{started.url}/predict", CURL_CHAT).status == 200
    sh("docker rmi turing_test_service:built")


def test_run_ps_logs_stop_rm() -> None:
    started = sh(f"docker run -d --label {LABEL} turing_test_service")
    assert started[:12] in sh("docker ps -a")
    wait_until(lambda: "Service turing_test_service initialized" in sh(f"docker logs {started}"))
    assert sh(f"docker stop {started}") == started
    assert sh(f"docker rm {started}") == started
    assert started[:12] not in sh("docker ps -a")


def test_run_with_a_port_answers_the_curl_of_the_readme(run: str) -> None:
    (port,) = {address.rpartition(":")[2] for address in sh(f"docker port {run} 8000").splitlines()}
    answer = sh(
        f"curl -s -X POST http://localhost:{port}/predict "
        f"-H 'Content-Type: application/json' -d '{json.dumps(CURL_CHAT)}'"
    )
    assert [side["participant_id"] for side in json.loads(answer)["participants"]] == [0, 1]


def test_run_it_bin_bash() -> None:
    command = "docker run --rm -it turing_test_service /bin/bash"
    assert "42-is-typed" in type_in_a_terminal(command, b"echo $((6 * 7))-is-typed; exit\n")


def test_images() -> None:
    assert "turing_test_service" in sh("docker images")


def test_inspect_stats_info(run: str) -> None:
    assert inspect(run)["Config"]["Image"] == "turing_test_service"
    shown = json.loads(sh(f"docker stats --no-stream --format json {run}"))
    assert shown["MemUsage"].split("/")[0].strip().endswith("MiB")
    assert "Server Version" in sh("docker info")


def test_exec_it(run: str) -> None:
    assert f"Python {PYTHON}" in type_in_a_terminal(f"docker exec -it {run} python --version", b"")
    assert "bentoml" in type_in_a_terminal(f"docker exec -it {run} bash", b"whoami; exit\n")


def test_rename(run: str) -> None:
    name = f"renamed-{run[:12]}"
    sh(f"docker rename {run} {name}")
    assert inspect(name)["State"]["Running"]


def test_stop_all_and_container_prune(run: str) -> None:
    sh(f"docker stop $(docker ps -q --filter label={LABEL})")
    assert inspect(run)["State"]["ExitCode"] == 0
    assert run in sh(f"docker container prune --force --filter label={LABEL}")


def test_image_prune_leaves_the_image() -> None:
    sh(f"docker image prune --force --filter label={LABEL}")
    assert inspect("turing_test_service")


def test_run_with_a_volume(tmp_path: Path) -> None:
    """A folder of root as `/history`: the error says what to do about it; then the dialogs are there afterwards."""
    tmp_path.chmod(0o755)
    refused = sh(f"docker run --rm -v {tmp_path}:/history turing_test_service 2>&1 || true").splitlines()[-1]
    assert "cannot store dialogs in /history: Permission denied for user 1034:1034" in refused
    sh(f"{refused.split('`')[-2]} {tmp_path}")
    with container("-v", f"{tmp_path}:/history") as started:
        message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
        assert send(f"{started.url}/predict", message).status == 200
    assert (tmp_path / "dialogs.sqlite").stat().st_size > 0


def test_run_with_limits_of_memory_and_cpu() -> None:
    with container("--memory=500m", "--cpus=1.0") as started:
        limits = inspect(started.name)["HostConfig"]
        assert (limits["Memory"], limits["NanoCpus"]) == (500 * 2**20, 1_000_000_000)
        assert send(f"{started.url}/predict", CURL_CHAT).status == 200


def test_run_on_the_hosts_network() -> None:
    """The service then listens on the host itself, on `PORT`, 8000 without it."""
    port = free_port()
    with container("--net=host", "-e", f"PORT={port}", port=port) as started:
        assert send(f"{started.url}/predict", CURL_CHAT).status == 200


def test_tag_push_rmi_pull(tmp_path: Path) -> None:
    with registry(tmp_path) as address:
        name = f"{address}/turing_test_service:1"
        sh(f"docker tag turing_test_service {name}")
        sh(f"docker push {name}")
        sh(f"docker rmi {name}")
        sh(f"docker pull {name}")
        assert inspect(name)["Id"] == inspect("turing_test_service")["Id"]
        sh(f"docker rmi {name}")


# Compose. The course's service has the name turing-test-service; where its list says `app`, that is the service.


@pytest.fixture
def project(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Copy the project without the developer's `.env`; yields the folder and the address that `.env` publishes."""
    if SERVICE in sh("docker ps -a --format '{{.Names}}'").split():
        pytest.fail(f"there is a container {SERVICE} already; these tests make their own: `docker compose down` first")
    folder = tmp_path / "project"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "tests", "benchmarks", "__pycache__", "history"))
    shutil.copy(ROOT / ".dockerignore", folder)
    port = free_port()
    image = f"turing_test_service:compose-{port}"
    (folder / ".env").write_text(f"PORT={port}\nIMAGE={image}\nBUILD_NETWORK={NETWORK}\n")
    sh(f"docker tag turing_test_service {image}")
    yield folder, f"http://localhost:{port}"
    sh("docker compose down --volumes --timeout 2", folder)
    remove_images(image)


def image_of(folder: Path) -> str:
    return next(line for line in (folder / ".env").read_text().split() if line.startswith("IMAGE="))[6:]


def answers(url: str) -> bool:
    wait_until(lambda: is_ready(url))
    return send(f"{url}/predict", CURL_CHAT).status == 200


def test_compose_up_d_ps_logs_exec_stop_start_restart_down(project: tuple[Path, str]) -> None:
    folder, url = project
    sh("docker compose up -d", folder)
    assert answers(url)
    assert SERVICE in sh("docker compose ps", folder)
    assert "Service turing_test_service initialized" in sh("docker compose logs", folder)
    assert f"Python {PYTHON}" in sh(f"docker compose exec -T {SERVICE} python --version", folder)
    assert "bentoml" in type_in_a_terminal(f"docker compose exec {SERVICE} bash", b"whoami; exit\n", folder)
    assert "bentoml" in type_in_a_terminal(f"docker exec -it {SERVICE} bash", b"whoami; exit\n")

    sh("docker compose stop", folder)
    assert inspect(SERVICE)["State"]["ExitCode"] == 0
    sh("docker compose start", folder)
    assert answers(url)
    sh("docker compose restart", folder)
    assert answers(url)
    sh("docker compose down", folder)
    assert SERVICE not in sh("docker ps -a --format '{{.Names}}'").split()


def test_compose_up_and_logs_f_follow_until_the_end(project: tuple[Path, str]) -> None:
    folder, url = project
    with (folder / "up.log").open("wb") as up, (folder / "logs.log").open("wb") as logs:
        foreground = subprocess.Popen(["docker", "compose", "up"], cwd=folder, stdout=up, stderr=up)
        assert answers(url)
        follower = subprocess.Popen(["docker", "compose", "logs", "-f"], cwd=folder, stdout=logs, stderr=logs)
        send(f"{url}/predict", {"chat_id": 1})  # leaves a line
        wait_until(lambda: "/predict 400" in (folder / "logs.log").read_text(), 10)
        sh("docker compose stop", folder)
        foreground.wait(timeout=20)
        follower.wait(timeout=20)
    assert "/predict 400" in (folder / "up.log").read_text()


def test_compose_build_and_up_build(project: tuple[Path, str]) -> None:
    folder, url = project
    before = inspect(image_of(folder))["Id"]
    sh("docker compose build", folder)
    built = inspect(image_of(folder))["Id"]
    assert built != before, "it is not the one that was there"
    with (folder / "service.py").open("a") as source:
        source.write("# changed\n")
    sh("docker compose up --build -d", folder)
    assert answers(url)
    assert inspect(image_of(folder))["Id"] != built
    assert sh(f"docker exec {SERVICE} tail -n 1 /home/bentoml/bento/src/service.py") == "# changed"


def test_compose_push_and_pull(project: tuple[Path, str], tmp_path: Path) -> None:
    """To a registry, and from there where the image is not; then up."""
    folder, url = project
    with registry(tmp_path) as address:
        name = f"{address}/turing_test_service:1"
        sh(f"docker tag turing_test_service {name}")
        sh("docker compose push", folder, IMAGE=name)
        sh(f"docker rmi {name}")
        sh("docker compose pull", folder, IMAGE=name)
        assert inspect(name)["Id"] == inspect("turing_test_service")["Id"]
        sh("docker compose up -d", folder, IMAGE=name)
        assert answers(url)
        assert inspect(SERVICE)["Config"]["Image"] == name
        sh("docker compose down", folder, IMAGE=name)
        remove_images(name)
