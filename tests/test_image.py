"""The image, on a real Docker engine: that of `make image` and that of `docker build`, which are the same."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.chat import Chat
from models.classifier import Classifier
from models.weights import METRICS
from tests.conftest import CURL_CHAT, ROOT, free_port, send, wait_until
from tests.engine import IMAGE, NETWORK, Container, container, docker, inspect, remove_images
from tests.stores import PostgreSql, make_store
from train.__main__ import main

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("image")]


@pytest.fixture(scope="module")
def served(image: str) -> Iterator[Container]:  # noqa: ARG001  # built before it runs
    with container() as started:
        yield started


@pytest.fixture(scope="module")
def of_dockerfile(image: str) -> Iterator[str]:  # noqa: ARG001  # what it is compared with
    """Build the image without `bentoml containerize`, with the version of the one that `make image` has built."""
    name = f"{IMAGE}:dockerfile"
    labels = inspect(IMAGE)["Config"]["Labels"]
    given = [f"{key.upper()}={labels[f'org.opencontainers.image.{key}']}" for key in ("version", "revision", "source")]
    docker("build", "--network", NETWORK, "-t", name, *[f"--build-arg={pair}" for pair in given], ".")
    yield name
    remove_images(name)


def test_it_is_small_and_has_no_tools_to_build(of_dockerfile: str) -> None:
    for name in (IMAGE, of_dockerfile):
        print(f"{name}: {inspect(name)['Size'] / 1e6:.0f} MB")
        assert inspect(name)["Size"] <= 500e6
        tools = ["gcc", "cc", "make", "git", "curl"]
        found = docker("run", "--rm", "--entrypoint", "sh", name, "-c", f"command -v {' '.join(tools)} || true")
        assert found == ""


def configuration(image: str) -> dict[str, Any]:
    """Return what an image says about itself, with the environment sorted.

    The ports are left out, as BentoML's image names 3000 and 3001 whatever the service listens on, and so is the health
    check, which it cannot have.
    """
    config = inspect(image)["Config"]
    named = ("User", "WorkingDir", "Entrypoint", "Cmd", "Labels", "Volumes", "StopSignal")
    return {**{name: config.get(name) for name in named}, "Env": sorted(config["Env"])}


def listing(image: str, command: str) -> list[str]:
    return docker("run", "--rm", "--entrypoint", "sh", image, "-c", command).splitlines()


def test_both_images_say_the_same_about_themselves(of_dockerfile: str) -> None:
    assert configuration(of_dockerfile) == configuration(IMAGE)


def test_both_images_hold_the_same(of_dockerfile: str) -> None:
    """Users, and all files of the packages and of the Bento with owner, mode and content."""
    owned = "find {} -type f -not -name '*.pyc' -printf '%p %m %u:%g\\n' | sort"
    content = "find {} -type f -not -name '*.pyc' -not -name RECORD -exec sha256sum {{}} + | sort"
    bento = "/home/bentoml/bento/src /home/bentoml/bento/apis/schema.json /home/bentoml/bento/env/python"
    for command in (
        "cat /etc/passwd /etc/group; id; stat -c '%n %a %U:%G' / /app /history /home/bentoml",
        "find /app/.venv/bin -printf '%p %m %y\\n' | sort",  # BentoML gives the scripts that activate it to the user
        owned.format("/app/.venv/lib"),
        content.format("/app/.venv/lib"),
        owned.format(bento),
        content.format(f"{bento} /home/bentoml/bento/env/docker/entrypoint.sh"),
    ):
        expected = listing(IMAGE, command)
        assert len(expected) > 5
        assert listing(of_dockerfile, command) == expected


def test_both_images_give_the_same_answers(served: Container, of_dockerfile: str) -> None:
    with container(image=of_dockerfile) as other:
        for path, body in (
            ("/predict", CURL_CHAT),
            ("/explain", CURL_CHAT),
            ("/predict_batch", {"chats": [CURL_CHAT]}),
        ):
            assert send(f"{other.url}{path}", body).text == send(f"{served.url}{path}", body).text


def test_it_says_what_it_is() -> None:
    config = inspect(IMAGE)["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert set(labels) == {"title", "description", "version", "revision", "source", "licenses"}
    assert labels["title"] == IMAGE
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert labels["revision"].removesuffix("-dirty") == (commit.stdout.strip() or "unknown")
    tag = next(line for line in listing(IMAGE, "cat /home/bentoml/bento/bento.yaml") if line.startswith("version:"))
    assert tag.split()[1].strip("'\"") == labels["version"], "the version is the Bento's"


@pytest.mark.parametrize("port", ["8000", "9000"])
def test_docker_shows_the_health_of_the_image_of_the_dockerfile(of_dockerfile: str, port: str) -> None:
    assert list(inspect(of_dockerfile)["Config"]["ExposedPorts"]) == ["8000/tcp"]
    published = ["-p", f"{(outside := free_port())}:{port}"]
    with container("-e", f"PORT={port}", *published, port=outside, image=of_dockerfile) as started:
        wait_until(lambda: "(healthy)" in docker("ps", "--filter", f"name={started.name}", "--format", "{{.Status}}"))
        assert inspect(started.name)["State"]["Health"]["FailingStreak"] == 0


def test_any_user_of_group_0_can_run_it() -> None:
    """As OpenShift does; one goes on where another has stopped."""
    volume = f"turing-test-{free_port()}"
    message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    try:
        for number, user in enumerate(("12345:0", "54321:0", "1034:0")):
            locked = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "-v", f"{volume}:/history"]  # noqa: S108
            with container("--user", user, *locked) as started:
                assert send(f"{started.url}/predict", {**message, "id": str(number)}).status == 200
    finally:
        docker("volume", "rm", volume)


@pytest.mark.parametrize("options", [["-v", "/history:ro"], ["--user", "12345:12345"], ["--read-only"]])
def test_dialogs_that_cannot_be_stored_stop_the_start(options: list[str], tmp_path: Path) -> None:
    if options[0] == "-v":
        options = ["-v", f"{tmp_path}:{options[1]}"]
    name = f"turing-test-{free_port()}"
    command = ["docker", "run", "--rm", "--name", name, *options, "--tmpfs", "/tmp", IMAGE]  # noqa: S108
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    finally:
        docker("rm", "-f", name, check=False)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert re.search(r"cannot store dialogs in /history\S*: \w", line)


def test_the_last_line_of_the_build_is_a_command_that_works(image: str) -> None:
    """BentoML's own would name port 3000, which reaches nothing."""
    command = image.splitlines()[-1].partition(": ")[2].split()
    assert command == ["docker", "run", "-d", "-p", "8000:8000", f"{IMAGE}:latest"]
    with container(image=command[-1]) as started:
        assert send(f"{started.url}/predict", CURL_CHAT).status == 200


def test_it_answers_as_the_shipped_model(served: Container, classifier: Classifier) -> None:
    answer = send(f"{served.url}/predict", CURL_CHAT)
    assert answer.status == 200
    assert answer.json["model_version"] == classifier.version
    assert send(f"{served.url}/").text.count("swagger") > 0


def test_log_lines_name_the_worker(served: Container) -> None:
    send(f"{served.url}/predict", {"chat_id": 1})
    wait_until(lambda: "[entry_service:turing_test_service:" in docker("logs", served.name), 5)
    unnamed = [line for line in docker("logs", served.name).splitlines() if re.search(r"\[:\d\]", line)]
    assert all("Service loaded" in line for line in unnamed), "BentoML does not know the name before"


def test_it_is_not_root(served: Container) -> None:
    assert inspect(IMAGE)["Config"]["User"] not in ("", "root", "0")
    assert served.exec("id", "-u") == "1034"


def test_another_model_from_a_volume(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--quiet"]) == 0
    version = json.loads((tmp_path / METRICS).read_text())["version"]
    tmp_path.chmod(0o755)
    with container("-v", f"{tmp_path}:/other:ro", "-e", "MODEL_FOLDER=/other") as started:
        assert send(f"{started.url}/predict", CURL_CHAT).json["model_version"] == version


@pytest.mark.parametrize("options", ["", "--read-only --tmpfs /tmp -v /history", "--user 12345:0"])
def test_a_model_of_bentomls_store(tmp_path: Path, of_dockerfile: str, options: str) -> None:
    """As `docs/operation.md` says; the store is the user's, with the modes that BentoML gives it."""
    store, version = make_store(tmp_path)
    mounted = ["-v", f"{store}:/bentoml/models:ro", "-e", "MODEL=bot_or_human:latest"]
    for image in (IMAGE, of_dockerfile):
        with container(*mounted, *options.split(), image=image) as started:
            assert send(f"{started.url}/predict", CURL_CHAT).json["model_version"] == version


def test_a_model_that_the_user_of_the_container_cannot_read_stops_the_start(tmp_path: Path) -> None:
    store, version = make_store(tmp_path)
    (store / "bot_or_human" / version).chmod(0o700)
    command = ["docker", "run", "--rm", "-v", f"{store}:/bentoml/models:ro", "-e", "MODEL=bot_or_human:latest", IMAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert re.search(r"MODEL: User 1034 .* cannot read /bentoml/models/bot_or_human/\S+: Permission denied", line)


def test_dialogs_live_in_the_volume(classifier: Classifier) -> None:
    """What one container was told, the next one knows."""
    first = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    second = {"text": "are you a bot?", "dialog_id": "d", "id": "2", "participant_index": 1}
    told = {"chat_id": "d", "messages": [_as_chat(first), _as_chat(second)]}
    volume = f"turing-test-{free_port()}"
    try:
        with container("-v", f"{volume}:/history") as started:
            assert send(f"{started.url}/predict", first).status == 200
        with container("-v", f"{volume}:/history") as started:
            answer = send(f"{started.url}/predict", second).json["is_bot_probability"]
            (whole,) = classifier.predict([Chat.model_validate(told)])
            assert answer == pytest.approx(whole.participants[1].is_bot_probability, abs=1e-9)
    finally:
        docker("volume", "rm", volume)


def _as_chat(message: dict[str, object]) -> dict[str, object]:
    return {"message_id": message["id"], "text": message["text"], "participant_id": message["participant_index"]}


@pytest.mark.postgresql
def test_dialogs_in_a_postgresql_outside_the_container() -> None:
    store = PostgreSql()
    store.start()
    message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    try:
        port = free_port()
        with container("--net=host", "-e", f"PORT={port}", "-e", f"HISTORY_URL={store.url}", port=port) as started:
            assert send(f"{started.url}/predict", message).status == 200
        assert store.query("SELECT text FROM messages") == ["hi"]
    finally:
        store.remove()
