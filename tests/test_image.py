"""The image, on a real Docker engine: that of `make image` and that of `docker build`, which are the same.

The commands that every user of Docker knows are run as they are typed; `tests/test_compose.py` has those of Compose.
Two things differ from what is typed: ports and names are the tests' own, and commands that would reach every container
of the machine are narrowed to those of the tests with `--filter`.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.classifier import Classifier
from serving.base_image import read_base
from tests.conftest import CURL_CHAT, ROOT, free_port, is_ready, send, wait_until
from tests.engine import (
    IMAGE,
    NETWORK,
    container,
    docker,
    inspect,
    make_store,
    remove_images,
    sh,
    type_in_a_terminal,
)

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("image")]


@pytest.fixture(scope="module")
def of_dockerfile(image: str) -> Iterator[str]:  # noqa: ARG001  # what it is compared with
    """Build the image without `bentoml containerize`, with the version of the one that `make image` has built."""
    name = f"{IMAGE}:dockerfile"
    labels = inspect(IMAGE)["Config"]["Labels"]
    given = [f"{key.upper()}={labels[f'org.opencontainers.image.{key}']}" for key in ("version", "revision", "source")]
    docker("build", "--network", NETWORK, "-t", name, *[f"--build-arg={pair}" for pair in given], ".")
    yield name
    remove_images(name)


def listing(image: str, command: str) -> list[str]:
    return docker("run", "--rm", "--entrypoint", "sh", image, "-c", command).splitlines()


def test_it_is_small_and_has_no_tools_to_build(of_dockerfile: str) -> None:
    for name in (IMAGE, of_dockerfile):
        print(f"{name}: {inspect(name)['Size'] / 1e6:.0f} MB")
        assert inspect(name)["Size"] <= 500e6
        assert listing(name, "for tool in gcc cc make git curl; do command -v $tool; done; true") == []


def configuration(image: str) -> dict[str, Any]:
    """Return what an image says about itself, with the environment sorted.

    The ports are left out, as BentoML's image names 3000 and 3001 whatever the service listens on, and so is the health
    check, which it cannot have.
    """
    config = inspect(image)["Config"]
    named = ("User", "WorkingDir", "Entrypoint", "Cmd", "Labels", "Volumes", "StopSignal")
    return {**{name: config.get(name) for name in named}, "Env": sorted(config["Env"])}


def test_both_images_say_the_same_about_themselves_and_hold_the_same(of_dockerfile: str) -> None:
    """Users, and all files of the packages and of the Bento with owner, mode and content."""
    assert configuration(of_dockerfile) == configuration(IMAGE)
    owned = "find {} -type f -not -name '*.pyc' -printf '%p %m %u:%g\\n' | sort"
    content = "find {} -type f -not -name '*.pyc' -not -name RECORD -exec sha256sum {{}} + | sort"
    bento = "/home/bentoml/bento/src /home/bentoml/bento/apis/schema.json /home/bentoml/bento/env/python"
    for command in (
        "cat /etc/passwd /etc/group; id; stat -c '%n %a %U:%G' / /app /history /home/bentoml",
        "find /app/.venv/bin -printf '%p %m %y\\n' | sort",  # BentoML gives the scripts that activate it to the user
        owned.format(f"/app/.venv/lib {bento}"),
        content.format(f"/app/.venv/lib {bento} /home/bentoml/bento/env/docker/entrypoint.sh"),
    ):
        expected = listing(IMAGE, command)
        assert len(expected) > 5
        assert listing(of_dockerfile, command) == expected


def test_it_says_what_it_is() -> None:
    config = inspect(IMAGE)["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert set(labels) == {"title", "description", "version", "revision", "source", "licenses"}
    assert labels["title"] == IMAGE
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert labels["revision"].removesuffix("-dirty") == (commit.stdout.strip() or "unknown")
    tag = next(line for line in listing(IMAGE, "cat /home/bentoml/bento/bento.yaml") if line.startswith("version:"))
    assert tag.split()[1].strip("'\"") == labels["version"], "the version is the Bento's"


def test_run_with_limits_on_the_hosts_network_to_prune(of_dockerfile: str, classifier: Classifier) -> None:
    """The service then listens on the host itself, on `PORT`; both images answer as the shipped model."""
    label, url = "turing-test-commands", f"http://localhost:{(port := free_port())}"
    limits = "--memory=500m --cpus=1.0 --net=host"
    started = sh(f"docker run -d {limits} -e PORT={port} --label {label} turing_test_service")
    try:
        assert started[:12] in sh("docker ps -a")
        wait_until(lambda: is_ready(url))
        request = f"-H 'Content-Type: application/json' -d '{json.dumps(CURL_CHAT)}'"
        assert f'"model_version":"{classifier.version}"' in sh(f"curl -s -X POST {url}/predict {request}")
        with container("--health-interval=1s", image=of_dockerfile) as other:
            for path, body in (("", None), ("/predict", CURL_CHAT), ("/explain", CURL_CHAT)):
                answer = send(f"{url}{path}", body)
                assert answer.status == 200
                assert answer.text == send(f"{other.url}{path}", body).text
            wait_until(lambda: inspect(other.name)["State"]["Health"]["Status"] == "healthy")
            config = inspect(of_dockerfile)["Config"]
            assert list(config["ExposedPorts"]) == ["8000/tcp"]
            check = config["Healthcheck"]["Test"][1:]
            assert "refused" in docker("exec", "-e", f"PORT={free_port()}", other.name, *check, check=False)
        send(f"{url}/predict", {"chat_id": 1})
        wait_until(lambda: "[entry_service:turing_test_service:" in sh(f"docker logs {started}"))
        unnamed = [line for line in sh(f"docker logs {started}").splitlines() if re.search(r"\[:\d\]", line)]
        assert all("Service loaded" in line for line in unnamed), "BentoML does not know the name before"
        assert "/ 500MiB" in sh(f"docker stats --no-stream {started}")
        python = type_in_a_terminal(f"docker exec -it {started} python --version", "")
        assert f"Python {read_base()['python_version']}" in python

        sh(f"docker rename {started} renamed-{started[:12]}")
        sh(f"docker stop $(docker ps -q --filter label={label})")
        assert inspect(f"renamed-{started[:12]}")["State"]["ExitCode"] == 0
        assert started in sh(f"docker container prune --force --filter label={label}")
    finally:
        sh(f"docker rm -f {started}", check=False)
    command = "docker run --rm -it turing_test_service /bin/bash"
    assert "1034-is-typed" in type_in_a_terminal(command, "echo $(id -u)-is-typed; exit\n")


def test_the_last_line_of_the_build_is_the_command_that_runs_it(image: str) -> None:
    """BentoML's own would name port 3000, which reaches nothing."""
    assert image.splitlines()[-1] == f"Run it: docker run -d -p 8000:8000 {IMAGE}:latest"


def test_any_user_of_group_0_can_run_it_with_another_model_and_dialogs_live_in_the_volume(tmp_path: Path) -> None:
    """As OpenShift runs it; one user goes on where another has stopped.

    The model comes from a store of BentoML's, with the modes that BentoML gives it, or from a folder.
    """
    store, version = make_store(tmp_path)
    tmp_path.chmod(0o755)
    tag = ["-v", f"{store}:/bentoml/models:ro", "-e", "MODEL=bot_or_human:latest"]
    folder = ["-v", f"{store}/bot_or_human/{version}:/other:ro", "-e", "MODEL_FOLDER=/other"]
    volume = f"turing-test-{free_port()}"
    message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    locked = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "-v", f"{volume}:/history"]  # noqa: S108
    try:
        for user, model, known in (("12345:0", tag, 200), ("1034:0", folder, 409)):
            with container("--user", user, *locked, *model) as started:
                assert send(f"{started.url}/predict", {**message, "text": user}).status == known
                assert send(f"{started.url}/predict", CURL_CHAT).json["model_version"] == version
    finally:
        docker("volume", "rm", volume)
    (store / "bot_or_human" / version).chmod(0o700)
    line = sh(f"docker run --rm {' '.join(tag)} {IMAGE}", check=False).splitlines()[-1]
    assert re.search(r"MODEL: User 1034 .* cannot read /bentoml/models/bot_or_human/\S+: Permission denied", line)


def test_run_with_a_folder_of_the_host(tmp_path: Path) -> None:
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
