"""The Compose file, on a real Docker engine."""

import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from models.chat import Chat
from models.classifier import Classifier
from models.weights import SHIPPED
from serving.settings import Settings
from tests.conftest import CURL_CHAT, ROOT, free_port, is_ready, sample_bodies, send, wait_until
from tests.engine import docker, inspect
from tests.prometheus import is_up, numbers
from tests.stores import make_certificate, make_store
from train.__main__ import main

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("image")]
NAME = "turing-test-service"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """Copy the Compose file to a folder of its own, so that no `.env` of the developer's is read."""
    if there := containers():
        pytest.fail(f"there are containers {there} already; these tests make their own: `docker compose down` first")
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    yield tmp_path
    compose(tmp_path, "--profile", "*", "down", "--volumes", "--remove-orphans")


def containers() -> set[str]:
    """Return the names of the Compose file's containers that exist, running or not."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    return {service["container_name"] for service in services} & set(
        docker("ps", "-a", "--format", "{{.Names}}").split()
    )


def compose(project: Path, *arguments: str) -> str:
    return docker("compose", *arguments, cwd=project)


def health() -> str:
    return str(inspect(NAME)["State"]["Health"]["Status"])


def test_it_runs_as_described(project: Path) -> None:
    port = free_port()
    (project / ".env").write_text(f"PORT={port}\nLOG_FORMAT=json\nBENTOML_CONFIG={project}/bentoml.yaml\n")
    (project / "bentoml.yaml").write_text("services: {turing_test_service: {logging: {access: {enabled: true}}}}\n")
    compose(project, "up", "-d")
    url = f"http://localhost:{port}"
    wait_until(lambda: is_ready(url))
    answer = httpx.post(f"{url}/predict", json=CURL_CHAT, headers={"X-Request-ID": "first"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "first")
    (line,) = [json.loads(line) for line in docker("logs", NAME).splitlines() if '"first"' in line]
    assert (line["name"], line["path"], line["status"]) == ("bentoml.access", "/predict", 200)
    message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    assert send(f"{url}/predict", message).status == 200

    running = inspect(NAME)
    assert running["HostConfig"]["Memory"] == 4 * 2**30
    assert running["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert list(running["NetworkSettings"]["Networks"]) == ["student_net"]
    assert inspect("student_net")["Driver"] == "bridge"
    wait_until(lambda: health() == "healthy")

    assert "dialogs.sqlite" in compose(project, "exec", "-T", NAME, "ls", "/history")


def test_it_needs_no_env_file(project: Path) -> None:
    """Without `.env` the port outside is 443."""
    assert 'published: "443"' in compose(project, "config")


def test_a_variable_of_the_shell_comes_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".env").write_text("PORT=1111\n")
    monkeypatch.setenv("PORT", "8443")
    shown = compose(project, "config")
    assert 'published: "8443"' in shown
    assert "target: 8000" in shown


def environment(name: str) -> dict[str, str]:
    """Return the environment of a container or an image; Docker takes an entry without a value out of the image's."""
    return dict(entry.split("=", 1) for entry in inspect(name)["Config"]["Env"] if "=" in entry)


def test_every_setting_of_env_reaches_the_service_and_nothing_else_does(project: Path) -> None:
    values = {name.upper(): f"value-of-{name}" for name in Settings.model_fields}
    others = {"PORT": str(free_port()), "POSTGRES_PASSWORD": "secret", "POSTGRES_USER": "u", "OTHER": "x"}
    lines = "".join(f"{name}={value}\r\n" for name, value in {**values, **others}.items())
    (project / ".env").write_text(lines, encoding="utf-8-sig", newline="")  # as editors on Windows write it
    compose(project, "create")
    assert environment(NAME) == {**environment("turing_test_service"), **values, "PORT": "8000"}
    options = ("--rm", "--env-file", str(project / ".env"), "--entrypoint", "env")
    assert {f"{name}={value}" for name, value in values.items()} <= set(
        docker("run", *options, "turing_test_service").split("\n")
    )


def test_without_env_the_settings_are_the_images(project: Path) -> None:
    compose(project, "create")
    given = environment(NAME)
    removed = {entry for entry in inspect(NAME)["Config"]["Env"] if "=" not in entry}
    assert not removed & set(environment("turing_test_service"))
    assert given == {**environment("turing_test_service"), "PORT": "8000"}


def test_a_dollar_in_a_password_takes_single_quotes(project: Path) -> None:
    url = "postgresql://dialogs:a$b$$c@postgres/dialogs"
    (project / ".env").write_text(f"HISTORY_URL='{url}'\n")
    compose(project, "create")
    assert f"HISTORY_URL={url}" in inspect(NAME)["Config"]["Env"]


def test_the_profile_runs_postgresql(project: Path) -> None:
    """As .env.example describes it: the dialogs are in PostgreSQL, and outlive both containers."""
    port = free_port()
    (project / ".env").write_text(
        f"PORT={port}\n"
        "HISTORY_URL=postgresql://dialogs:a-password@postgres/dialogs\n"
        "POSTGRES_USER=dialogs\nPOSTGRES_PASSWORD=a-password\nPOSTGRES_DB=dialogs\n"
    )
    url = f"http://localhost:{port}"
    first = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    second = {"text": "are you a bot?", "dialog_id": "d", "id": "2", "participant_index": 1}
    told = (
        {"message_id": 0, "text": "hi", "participant_id": 0},
        {"message_id": 1, "text": second["text"], "participant_id": 1},
    )
    for message in (first, second):
        compose(project, "--profile", "postgres", "up", "-d")
        wait_until(lambda: is_ready(url))
        answer = send(f"{url}/predict", message)
        assert answer.status == 200
        query = ["psql", "-U", "dialogs", "-At", "-c", "SELECT text FROM messages ORDER BY seq", "dialogs"]
        texts = compose(project, "--profile", "postgres", "exec", "-T", "postgres", *query).splitlines()
        if message is first:
            assert texts == ["hi"]
            compose(project, "--profile", "postgres", "down")
    assert texts == ["hi", "are you a bot?"]
    (dialog,) = Classifier.load().predict([Chat.model_validate({"chat_id": "d", "messages": told})])
    whole = dialog.participants[1].is_bot_probability
    assert answer.json["is_bot_probability"] == pytest.approx(whole, abs=1e-9)
    environment = json.dumps(inspect(NAME)["Config"]["Env"])
    assert environment.count("a-password") == 1, "in HISTORY_URL alone"


@pytest.mark.parametrize("store", ["turing-test-service", "postgres"])
def test_dialogs_are_saved_and_restored_as_the_documentation_says(project: Path, store: str) -> None:
    """And the copy of SQLite is what training reads."""
    pattern = rf"^docker compose exec -T {store} .*(?:save|dump|restore).*$"
    save, restore, *_ = re.findall(pattern, (ROOT / "docs" / "operation.md").read_text(), re.MULTILINE)
    lines = [f"PORT={(port := free_port())}"]
    if store == "postgres":
        url = "postgresql://dialogs:a-password@postgres/dialogs"
        lines += ["COMPOSE_PROFILES=postgres", f"HISTORY_URL={url}", "POSTGRES_PASSWORD=a-password"]
    (project / ".env").write_text("".join(f"{line}\n" for line in lines))
    compose(project, "up", "-d")
    wait_until(lambda: is_ready(f"http://localhost:{port}"))

    def say(number: int, text: str) -> int:
        message = {"text": text, "dialog_id": "d", "id": str(number), "participant_index": number % 2}
        return send(f"http://localhost:{port}/predict", message).status

    assert [say(number, "hi") for number in range(4)] == [200] * 4
    subprocess.run(["bash", "-c", save], cwd=project, check=True)
    assert say(4, "after the copy") == 200
    subprocess.run(["bash", "-c", restore], cwd=project, check=True)
    assert [say(number, "other") for number in range(4)] == [409] * 4, "they are there"
    assert say(4, "other") == 200, "it is not"
    if store != "postgres":
        labels = project / "labels.csv"
        labels.write_text("dialog_id,participant_index,is_bot\nd,0,1\nd,1,0\n")
        url = f"sqlite:///{project / 'dialogs.sqlite'}"
        assert main(["evaluate", str(SHIPPED), "--dialogs", url, str(labels), "--write", str(project / "served")]) == 0
        assert (project / "served" / "train.json").is_file()


def test_the_monitoring_log_is_copied_and_compared_as_the_readme_says(project: Path) -> None:
    """Without the profile, whose Grafana is not in every registry."""
    block = re.findall(r"^printf .*?(?=^```)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]
    setting, start, copy, compare = block.splitlines()
    (project / ".env").write_text(f"PORT={(port := free_port())}\n")
    for command in (setting.replace("=monitoring\\n'", "=\\n'"), start):
        subprocess.run(["bash", "-c", command], cwd=project, check=True)
    url = f"http://localhost:{port}"
    wait_until(lambda: is_ready(url))
    for body in sample_bodies() * 3:
        assert send(f"{url}/predict", body).status == 200
    wait_until(lambda: has_lines(project, copy, 120))
    drift = compare.partition("python -m ")[2].partition(" #")[0].split()
    assert main([*drift[1:-1], str(project / drift[-1])]) in (0, 3)


def has_lines(project: Path, copy: str, number: int) -> bool:
    """Copy the log anew, and tell whether it has so many lines."""
    shutil.rmtree(project / "log", ignore_errors=True)
    subprocess.run(["bash", "-c", copy], cwd=project, check=True, capture_output=True)
    return sum(file.read_text().count("\n") for file in (project / "log").glob("*.jsonl")) >= number


def test_the_profile_adds_postgresql(project: Path) -> None:
    assert "postgres" not in compose(project, "config", "--services").split()
    assert set(compose(project, "--profile", "postgres", "config", "--services").split()) == {NAME, "postgres"}
    shown = compose(project, "--profile", "postgres", "config")
    assert "pg_isready" in shown
    assert "condition: service_healthy" in shown


def test_a_model_of_bentomls_store(project: Path) -> None:
    port = free_port()
    store, version = make_store(project)
    (project / ".env").write_text(f"PORT={port}\nMODEL=bot_or_human:latest\nMODEL_STORE={store}\n")
    compose(project, "up", "-d")
    url = f"http://localhost:{port}"
    wait_until(lambda: is_ready(url))
    assert send(f"{url}/predict", CURL_CHAT).json["model_version"] == version
    assert f"bot_or_human:{version}" in compose(project, "exec", "-T", NAME, "bentoml", "models", "list")


def has_status(client: httpx.Client, url: str, status: int) -> bool:
    try:
        return client.get(url).status_code == status
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("own", [True, False])
def test_the_profile_serves_https(project: Path, own: bool) -> None:
    """As .env.example describes it: with a certificate of one's own, or with one that the proxy has made."""
    port, http_port, https_port = free_port(), free_port(), free_port()
    shutil.copytree(ROOT / "tls", project / "tls")
    trusted = project / "root.pem"
    lines = [
        "COMPOSE_PROFILES=tls",
        f"PORT=127.0.0.1:{port}",
        "TLS_HOST=localhost",
        f"HTTP_PORT={http_port}",
        f"HTTPS_PORT={https_port}",
    ]
    if own:
        lines.append("TLS=/etc/caddy/certificate.pem /etc/caddy/key.pem")
        make_certificate("localhost", project / "tls" / "certificate.pem", project / "tls" / "key.pem")
        shutil.copy(project / "tls" / "certificate.pem", trusted)
        for file in (project / "tls").glob("*.pem"):  # as editors on Windows write it
            file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
        os.chown(project / "tls" / "key.pem", 1000, 1000)  # the user's, who is not root
    (project / ".env").write_text("".join(f"{line}\n" for line in lines))
    compose(project, "up", "-d")
    assert containers() == {NAME, "turing-test-caddy"}
    wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"))
    if not own:
        made = "/data/caddy/pki/authorities/local/root.crt"
        wait_until(lambda: "BEGIN" in docker("exec", "turing-test-caddy", "cat", made, check=False))
        compose(project, "cp", f"caddy:{made}", str(trusted))
    with httpx.Client(verify=ssl.create_default_context(cafile=str(trusted)), timeout=30, trust_env=False) as client:
        address = f"https://localhost:{https_port}"
        wait_until(lambda: has_status(client, f"{address}/readyz", 200))
        answer = client.post(f"{address}/predict", json=CURL_CHAT)
        assert (answer.status_code, len(answer.json()["participants"])) == (200, 2)
        redirect = client.get(f"http://localhost:{http_port}/try")
        assert (redirect.status_code, redirect.headers["location"]) == (308, "https://localhost/try")
    if own:  # and it can be replaced
        make_certificate("localhost", project / "tls" / "certificate.pem", project / "tls" / "key.pem")
        compose(project, "restart", "caddy")
        renewed = ssl.create_default_context(cafile=str(project / "tls" / "certificate.pem"))
        with httpx.Client(verify=renewed, timeout=30, trust_env=False) as client:
            wait_until(lambda: has_status(client, f"{address}/readyz", 200))


def test_the_profile_runs_prometheus_which_reaches_the_service(project: Path) -> None:
    """With the tag `latest`, which has a stand-in where no registry can be reached; Grafana has none."""
    port, prometheus_port = free_port(), free_port()
    (project / ".env").write_text(
        f"PORT={port}\nPROMETHEUS_PORT={prometheus_port}\nPROMETHEUS_IMAGE=prom/prometheus:latest\n"
    )
    shutil.copytree(ROOT / "monitoring", project / "monitoring")
    compose(project, "--profile", "monitoring", "up", "-d", NAME, "prometheus")
    assert containers() == {NAME, "turing-test-prometheus"}
    url = f"http://localhost:{prometheus_port}"
    wait_until(lambda: is_up(url))
    jobs = (NAME, "turing-test-readiness")
    wait_until(lambda: all(numbers(url, f'up{{job="{job}"}}') == [1.0] for job in jobs))
