"""The image, on a real Docker engine: that of `make image` and that of `docker build`, which are the same."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.classifier import Classifier
from tests.conftest import CURL_CHAT, ROOT, free_port, send, wait_until
from tests.engine import IMAGE, NETWORK, container, docker, inspect, make_store, remove_images, sh

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


def test_both_images_answer_as_the_shipped_model_and_show_their_health(
    of_dockerfile: str, classifier: Classifier
) -> None:
    assert list(inspect(of_dockerfile)["Config"]["ExposedPorts"]) == ["8000/tcp"]
    with container() as started, container("--health-interval=1s", image=of_dockerfile) as other:
        for path, body in (("", None), ("/predict", CURL_CHAT), ("/explain", CURL_CHAT)):
            answer = send(f"{started.url}{path}", body)
            assert answer.status == 200
            assert answer.text == send(f"{other.url}{path}", body).text
        assert answer.json["model_version"] == classifier.version
        send(f"{started.url}/predict", {"chat_id": 1})
        wait_until(lambda: "[entry_service:turing_test_service:" in docker("logs", started.name))
        unnamed = [line for line in docker("logs", started.name).splitlines() if re.search(r"\[:\d\]", line)]
        assert all("Service loaded" in line for line in unnamed), "BentoML does not know the name before"
        assert started.exec("id", "-u") == "1034"
        wait_until(lambda: inspect(other.name)["State"]["Health"]["Status"] == "healthy")
        check = inspect(of_dockerfile)["Config"]["Healthcheck"]["Test"][1:]
        assert "refused" in docker("exec", "-e", f"PORT={free_port()}", other.name, *check, check=False)


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
