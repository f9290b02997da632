"""The container under Compose, and what it is made of: it can do no more than it has to."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker

from models.weights import ARTIFACT, FORMAT, METRICS, SHIPPED
from tests.conftest import CURL_CHAT, ROOT, free_port, is_ready, send, start_server, wait_until
from tests.engine import IMAGE, docker, inspect
from tests.test_compose import NAME, compose, health, project

pytestmark = pytest.mark.faults
__all__ = ["project"]  # a fixture
PINS = re.findall(r"^([\w.-]+)==(\S+)(?: ; (.*?))? \\$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


@pytest.fixture
def url(image: str, project: Path) -> str:  # noqa: ARG001  # built before it runs
    """Start the Compose file as it is; returns the address of the service."""
    port = free_port()
    (project / ".env").write_text(f"PORT={port}\n")
    compose(project, "up", "-d")
    url = f"http://localhost:{port}"
    wait_until(lambda: is_ready(url))
    return url


def inside(command: str) -> str:
    return docker("exec", NAME, "sh", "-c", command, check=False)


@pytest.mark.docker
def test_it_can_do_nothing_but_serve(url: str) -> None:
    assert send(f"{url}/predict", CURL_CHAT).status == 200
    message = {"text": "hi", "dialog_id": "d", "id": "1", "participant_index": 0}
    assert send(f"{url}/predict", message).status == 200
    wait_until(lambda: health() == "healthy")

    for folder in ("/", "/home/bentoml", "/home/bentoml/bento/src/models", "/app/.venv", "/usr", "/etc"):
        assert "Read-only file system" in inside(f"touch {folder}/written")
    assert inside("touch /tmp/written /history/written && echo done") == "done"
    assert "Permission denied" in inside("printf '#!/bin/sh\\necho ran' > /tmp/run && chmod +x /tmp/run && /tmp/run")
    assert inside("id -u") == "1034"
    status = dict(line.split(":\t", 1) for line in inside("cat /proc/1/status").splitlines() if ":\t" in line)
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5
    assert status["NoNewPrivs"] == "1"

    settings = inspect(NAME)["HostConfig"]
    assert settings["PidsLimit"] == 256
    assert settings["Memory"] == 4 * 2**30
    assert settings["ReadonlyRootfs"]
    assert settings["Privileged"] is False
    assert settings["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert [port for port, published in inspect(NAME)["NetworkSettings"]["Ports"].items() if published] == ["8000/tcp"]


@pytest.mark.docker
def test_it_holds_just_what_is_pinned(url: str) -> None:  # noqa: ARG001  # the container is asked
    """Each package in the version of requirements.txt, and none besides."""
    listed = "from importlib.metadata import distributions as d; print(*{f'{x.name}=={x.version}' for x in d()})"
    found = inside(f'python -c "{listed}"').split()
    normal = {re.sub(r"[-_.]+", "-", pin.lower()) for pin in found}
    assert normal == {
        re.sub(r"[-_.]+", "-", f"{name}=={version}".lower())
        for name, version, marker in PINS
        if not marker or Marker(marker).evaluate({"sys_platform": "linux"})
    }


def test_every_package_is_pinned_with_hashes() -> None:
    for file in ("requirements.txt", "requirements-dev.txt"):
        text = re.sub(r"#.*", "", (ROOT / file).read_text())
        found = [line for line in re.split(r"\n(?=\S)", text.strip()) if line]
        assert len(found) > 50
        assert all(re.match(r"[\w.-]+(\[\w+\])?==\S+", line) and "--hash=sha256:" in line for line in found)


def test_the_build_refuses_a_package_with_another_hash(tmp_path: Path) -> None:
    """The file that a Bento gives its image, installed as the image does."""
    for index, (name, _, _) in enumerate(PINS[:2]):
        content = (ROOT / "requirements.txt").read_text()
        start = content.index(f"{name}==")
        end = content.index("# via", start)
        spoilt = re.sub(r"sha256:\w{8}", "sha256:00000000", content[start:end])
        (tmp_path / "requirements.txt").write_text(content[:start] + spoilt + content[end:])
        environment = tmp_path / f"environment-{index}"
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "--quiet", environment], check=True)
        done = subprocess.run(
            [uv, "pip", "install", "--no-cache", "--python", environment, "-r", tmp_path / "requirements.txt"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert "Hash mismatch" in done.stderr


def test_ruff_finds_what_bandit_finds() -> None:
    """The rules are on: a pickle that is loaded, and a shell that gets a string."""
    code = "import pickle, subprocess\n\npickle.loads(b'')\nsubprocess.run('ls', shell=True)\n"
    command = [sys.executable, "-m", "ruff", "check", "--output-format=json", "--stdin-filename=serving/new.py", "-"]
    done = subprocess.run(command, cwd=ROOT, input=code, capture_output=True, text=True, check=False)
    assert {"S301", "S602"} <= {found["code"] for found in json.loads(done.stdout)}


def test_compose_publishes_one_port_to_other_machines() -> None:
    """Without the profile `tls`, whose proxy has two."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    ports = [port for name, service in services.items() if name != "caddy" for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == ["${PORT:-443}:8000"]


def spoil(folder: Path, how: str) -> None:
    """Put a model that cannot be served into a folder."""
    metrics = json.loads((SHIPPED / METRICS).read_text())
    content = (SHIPPED / ARTIFACT).read_bytes()
    if how == "tampered":
        content = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    elif how == "truncated":
        content = content[:-100]
    elif how == "newer":
        metrics["artifact"]["format"] = FORMAT + 1
    elif how == "newer numpy":
        metrics["artifact"]["numpy"] = "99.0.0"
    elif how == "no metrics":
        metrics = None
    if how != "missing":
        folder.mkdir()
        (folder / ARTIFACT).write_bytes(content)
        if metrics is not None:
            (folder / METRICS).write_text(json.dumps(metrics))
        folder.chmod(0o755)
    folder.parent.chmod(0o755)


MODELS = [
    ("tampered", "the checksum differs from that in metrics.json"),
    ("truncated", "the checksum differs from that in metrics.json"),
    ("newer", f"the artifact has format {FORMAT + 1}, this version reads {FORMAT}"),
    ("newer numpy", "the artifact was written with numpy 99.0.0"),
    ("no metrics", "metrics.json: No such file"),
    ("missing", "metrics.json: No such file"),
]


@pytest.mark.parametrize(("how", "why"), MODELS)
def test_a_model_that_cannot_be_served_stops_the_start(tmp_path: Path, how: str, why: str) -> None:
    spoil(tmp_path / "model", how)
    server = start_server(tmp_path, MODEL_FOLDER=str(tmp_path / "model"))
    assert server.exit_code() != 0
    (line,) = server.log.read_text().splitlines()
    assert "cannot serve the model: " in line
    assert why in line


@pytest.mark.docker
@pytest.mark.usefixtures("image")
@pytest.mark.parametrize(("how", "why"), MODELS)
def test_nor_does_the_container_start(tmp_path: Path, how: str, why: str) -> None:
    spoil(tmp_path / "model", how)
    mount = ["-v", f"{tmp_path}:/other:ro", "-e", "MODEL_FOLDER=/other/model"]
    command = ["docker", "run", "--rm", *mount, IMAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert "cannot serve the model: " in line
    assert why in line
