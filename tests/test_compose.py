"""The Compose file, on a real Docker engine: the commands as they are typed, settings, profiles and limits."""

import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml

from models.weights import SHIPPED
from serving.settings import Settings
from tests.conftest import CURL_CHAT, ROOT, free_port, is_ready, sample_bodies, send, wait_until
from tests.engine import IMAGE, NETWORK, docker, inspect, make_store, remove_images, sh, type_in_a_terminal
from tests.prometheus import numbers
from tests.stores import make_certificate
from train.__main__ import main

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("image")]
NAME = "turing-test-service"
MESSAGE = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """Copy the project without the developer's `.env`, and remove at the end what Compose has made."""
    if there := containers():
        pytest.fail(f"there are containers {there} already; these tests make their own: `docker compose down` first")
    folder = tmp_path / "project"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "tests", "benchmarks", "__pycache__", "history"))
    shutil.copy(ROOT / ".dockerignore", folder)
    yield folder
    sh("docker compose --profile '*' down --volumes --remove-orphans --timeout 2", folder)


def containers() -> set[str]:
    """Return the names of the Compose file's containers that exist, running or not."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    return {service["container_name"] for service in services} & set(sh("docker ps -a --format '{{.Names}}'").split())


def configure(project: Path, **settings: object) -> str:
    """Write `.env` with a free port and some settings; returns the address of the service."""
    settings = {"PORT": (port := free_port()), **settings}
    (project / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return f"http://localhost:{port}"


def answers(url: str) -> bool:
    wait_until(lambda: is_ready(url))
    return send(f"{url}/predict", CURL_CHAT).status == 200


# Commands. The course's service has the name turing-test-service; where its list says `app`, that is the service.


def test_up_ps_logs_exec_stop_start_restart_down(project: Path) -> None:
    """With a model of BentoML's store."""
    store, version = make_store(project)
    url = configure(project, MODEL="bot_or_human:latest", MODEL_STORE=store)
    with (project / "up.log").open("wb") as up, (project / "logs.log").open("wb") as logs:
        foreground = subprocess.Popen(["docker", "compose", "up"], cwd=project, stdout=up, stderr=up)
        assert answers(url)
        follower = subprocess.Popen(["docker", "compose", "logs", "-f"], cwd=project, stdout=logs, stderr=logs)
        send(f"{url}/predict", {"chat_id": 1})  # leaves a line
        wait_until(lambda: "/predict 400" in (project / "logs.log").read_text())
        assert NAME in sh("docker compose ps", project)
        assert send(f"{url}/predict", CURL_CHAT).json["model_version"] == version
        assert f"bot_or_human:{version}" in sh(f"docker compose exec -T {NAME} bentoml models list", project)
        assert "bentoml" in type_in_a_terminal(f"docker compose exec {NAME} bash", "whoami; exit\n", project)
        sh("docker compose stop", project)
        foreground.wait(timeout=60)
        follower.wait(timeout=60)
    assert "/predict 400" in (project / "up.log").read_text()
    for command in ("start", "restart"):
        sh(f"docker compose {command}", project)
        assert answers(url)
    sh("docker compose down", project)
    assert containers() == set()


def test_build_and_up_build_make_the_image_that_push_and_pull_name(project: Path) -> None:
    url = configure(project, IMAGE=(name := f"registry.example/{IMAGE}:1"), BUILD_NETWORK=NETWORK)
    with (project / "service.py").open("a") as source:
        source.write("# changed\n")
    sh("docker compose build", project)
    built = inspect(name)["Id"]
    sh("docker compose up --build -d", project)
    assert answers(url)
    assert (inspect(NAME)["Image"], inspect(NAME)["Config"]["Image"]) == (built, name)
    assert sh(f"docker exec {NAME} tail -n 1 /home/bentoml/bento/src/service.py") == "# changed"
    sh("docker compose down --timeout 2", project)
    remove_images(name)


# What the container can do


def inside(command: str) -> str:
    return docker("exec", NAME, "sh", "-c", command, check=False)


@pytest.mark.faults
def test_it_can_do_nothing_but_serve(project: Path) -> None:
    url = configure(project, LOG_FORMAT="json", BENTOML_CONFIG=(file := project / "bentoml.yaml"))
    file.write_text("services: {turing_test_service: {logging: {access: {enabled: true}}}}\n")
    sh("docker compose up -d", project)
    assert answers(url)
    (line,) = [json.loads(line) for line in docker("logs", NAME).splitlines() if '"/predict"' in line]
    assert (line["name"], line["status"]) == ("bentoml.access", 200), "the file of settings is read"
    assert send(f"{url}/predict", MESSAGE).status == 200
    assert "dialogs.sqlite" in inside("ls /history")

    for folder in ("/", "/home/bentoml", "/home/bentoml/bento/src/models", "/app/.venv", "/usr", "/etc"):
        assert "Read-only file system" in inside(f"touch {folder}/written")
    assert inside("touch /tmp/written /history/written && echo done") == "done"
    assert "Permission denied" in inside("printf '#!/bin/sh\\necho ran' > /tmp/run && chmod +x /tmp/run && /tmp/run")
    assert inside("id -u") == "1034"
    status = dict(line.split(":\t", 1) for line in inside("cat /proc/1/status").splitlines() if ":\t" in line)
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5
    assert status["NoNewPrivs"] == "1"

    running = inspect(NAME)
    expected = {
        "PidsLimit": 256,
        "Memory": 4 * 2**30,
        "Privileged": False,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
    }
    assert expected.items() <= running["HostConfig"].items()
    assert [port for port, published in running["NetworkSettings"]["Ports"].items() if published] == ["8000/tcp"]
    assert list(running["NetworkSettings"]["Networks"]) == ["student_net"]
    assert inspect("student_net")["Driver"] == "bridge"
    assert "Would make no changes" in inside("uv pip sync --dry-run --offline --no-cache src/requirements.txt 2>&1")
    wait_until(lambda: inspect(NAME)["State"]["Health"]["Status"] == "healthy")


# Settings


def environment(name: str) -> dict[str, str]:
    """Return the environment of a container or an image; Docker takes an entry without a value out of the image's."""
    return dict(entry.split("=", 1) for entry in inspect(name)["Config"]["Env"] if "=" in entry)


def test_every_setting_of_env_reaches_the_service_and_nothing_else_does(project: Path) -> None:
    """Without `.env` the settings are the image's, and the port is 443; values that contain `$` take single quotes."""
    sh("docker compose create", project)
    removed = {entry for entry in inspect(NAME)["Config"]["Env"] if "=" not in entry}
    assert not removed & set(environment(IMAGE))
    assert environment(NAME) == {**environment(IMAGE), "PORT": "8000"}
    assert inspect(NAME)["HostConfig"]["PortBindings"]["8000/tcp"][0]["HostPort"] == "443"
    values = {name.upper(): f"a$b$$c-{name}" for name in Settings.model_fields}
    others = {"PORT": (port := str(free_port())), "POSTGRES_PASSWORD": "secret", "POSTGRES_USER": "u", "OTHER": "x"}
    lines = "".join(f"{name}='{value}'\r\n" for name, value in {**values, **others}.items())
    (project / ".env").write_text(lines, encoding="utf-8-sig", newline="")  # as editors on Windows write it
    sh("docker compose create", project)
    assert environment(NAME) == {**environment(IMAGE), **values, "PORT": "8000"}
    assert inspect(NAME)["HostConfig"]["PortBindings"]["8000/tcp"][0]["HostPort"] == port


# What the documentation says


@pytest.mark.parametrize("store", [NAME, "postgres"])
def test_dialogs_outlive_the_containers_and_are_saved_and_restored(project: Path, store: str) -> None:
    """And the copy of SQLite is what training reads."""
    pattern = rf"^docker compose exec -T {store} .*(?:save|dump|restore).*$"
    save, restore, *_ = re.findall(pattern, (ROOT / "docs" / "operation.md").read_text(), re.MULTILINE)
    history = "postgresql://dialogs:a-password@postgres/dialogs"
    of_store = {"COMPOSE_PROFILES": "postgres", "HISTORY_URL": history, "POSTGRES_PASSWORD": "a-password"}
    url = configure(project, **of_store if store == "postgres" else {})

    def say(number: int, text: str) -> int:
        message = {"text": text, "dialog_id": "d", "id": str(number), "participant_index": number % 2}
        return send(f"{url}/predict", message).status

    sh("docker compose up -d", project)
    assert answers(url)
    assert [say(number, "hi") for number in range(4)] == [200] * 4
    sh(save, project)
    assert say(4, "after the copy") == 200
    sh(restore, project)
    assert say(4, "other") == 200, "it is not in the copy"
    sh("docker compose down", project)
    sh("docker compose up -d", project)
    wait_until(lambda: is_ready(url))
    assert [say(number, "other than before") for number in range(5)] == [409] * 5, "they are there"
    if store == "postgres":
        assert (
            sh("docker compose exec -T postgres psql -U dialogs -At -c 'SELECT count(*) FROM messages'", project) == "5"
        )
    else:
        labels = project / "labels.csv"
        labels.write_text("dialog_id,participant_index,is_bot\nd,0,1\nd,1,0\n")
        copy = f"sqlite:///{project / 'dialogs.sqlite'}"
        assert main(["evaluate", str(SHIPPED), "--dialogs", copy, str(labels), "--write", str(project / "served")]) == 0
        assert (project / "served" / "train.json").is_file()


def test_prometheus_reaches_the_service_and_its_log_is_compared_as_the_readme_says(project: Path) -> None:
    """With Prometheus' tag `latest`, which has a stand-in where no registry can be reached; Grafana has none."""
    block = re.findall(r"^printf .*?(?=^```)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]
    setting, start, copy, compare = block.splitlines()
    ports = {"PROMETHEUS_PORT": (port := free_port()), "PROMETHEUS_IMAGE": "prom/prometheus:latest"}
    url = configure(project, **ports)
    sh(setting, project)
    sh(f"{start.partition(' #')[0]} {NAME} prometheus", project)
    assert containers() == {NAME, "turing-test-prometheus"}
    assert answers(url)
    for body in sample_bodies() * 3:
        assert send(f"{url}/predict", body).status == 200
    prometheus = f"http://localhost:{port}"
    wait_until(lambda: is_ready(prometheus, "/-/ready"))
    jobs = (NAME, "turing-test-readiness")
    wait_until(lambda: all(numbers(prometheus, f'up{{job="{job}"}}') == [1.0] for job in jobs))

    def are_all_copied() -> bool:
        shutil.rmtree(project / "log", ignore_errors=True)
        sh(copy, project)
        return sum(file.read_text().count("\n") for file in (project / "log").glob("*.jsonl")) >= 120

    wait_until(are_all_copied)
    drift = compare.partition("python -m ")[2].partition(" #")[0].split()
    assert main([*drift[1:-1], str(project / drift[-1])]) in (0, 3)


def trusting(certificate: Path) -> httpx.Client:
    return httpx.Client(verify=ssl.create_default_context(cafile=str(certificate)), timeout=30, trust_env=False)


def serves(url: str, certificate: Path) -> bool:
    """Return whether a client that trusts one certificate gets 200."""
    with trusting(certificate) as client, suppress(httpx.TransportError):
        return client.get(url).status_code == 200
    return False


def test_the_profile_serves_https(project: Path) -> None:
    """As .env.example describes it: with a certificate that the proxy has made, then with others of one's own."""
    ports = {"HTTP_PORT": free_port(), "HTTPS_PORT": free_port(), "PORT": f"127.0.0.1:{free_port()}"}
    settings = {"COMPOSE_PROFILES": "tls", "TLS_HOST": "localhost", **ports}
    configure(project, **settings)
    sh("docker compose up -d", project)
    assert containers() == {NAME, "turing-test-caddy"}
    wait_until(lambda: is_ready(f"http://{ports['PORT']}"))
    made = "/data/caddy/pki/authorities/local/root.crt"
    wait_until(lambda: "BEGIN" in docker("exec", "turing-test-caddy", "cat", made, check=False))
    sh(f"docker compose cp caddy:{made} .", project)
    address = f"https://localhost:{ports['HTTPS_PORT']}"
    wait_until(partial(serves, f"{address}/readyz", project / "root.crt"))
    with trusting(project / "root.crt") as client:
        answer = client.post(f"{address}/predict", json=CURL_CHAT)
        assert (answer.status_code, len(answer.json()["participants"])) == (200, 2)
        redirect = client.get(f"http://localhost:{ports['HTTP_PORT']}/try")
        assert (redirect.status_code, redirect.headers["location"]) == (308, "https://localhost/try")
    certificate, key = project / "tls" / "certificate.pem", project / "tls" / "key.pem"
    configure(project, **settings, TLS="/etc/caddy/certificate.pem /etc/caddy/key.pem")
    for command in ("up -d", "restart caddy"):  # the second one after the files were replaced
        make_certificate("localhost", certificate, key)
        trusted = Path(shutil.copy(certificate, project / "trusted.pem"))
        for file in (certificate, key):  # as editors on Windows write it
            file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
        if os.getuid() == 0:
            os.chown(key, 1000, 1000)  # as a user's, who is not root
        sh(f"docker compose {command}", project)
        wait_until(partial(serves, f"{address}/readyz", trusted))
