"""What the service is made of: packages with their hashes, one port, and a model that matches its checksum."""

import json
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml

from models.weights import ARTIFACT, METRICS, SHIPPED
from tests.conftest import ROOT, start_server

pytestmark = pytest.mark.faults


def test_every_package_is_pinned_with_hashes() -> None:
    for file in ("requirements.txt", "requirements-dev.txt"):
        text = re.sub(r"#.*", "", (ROOT / file).read_text())
        found = [line for line in re.split(r"\n(?=\S)", text.strip()) if line]
        assert len(found) > 50
        assert all(re.match(r"[\w.-]+(\[\w+\])?==\S+", line) and "--hash=sha256:" in line for line in found)


def test_the_build_refuses_a_package_with_another_hash(tmp_path: Path) -> None:
    """The file that a Bento gives its image, installed as the image does."""
    content = (ROOT / "requirements.txt").read_text()
    first, rest = content.split("# via", 1)
    (tmp_path / "requirements.txt").write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", first) + "# via" + rest)
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", tmp_path / "environment"], check=True)
    command = [uv, "pip", "install", "--no-cache", "--python", "environment", "-r", "requirements.txt"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Hash mismatch" in done.stderr


def test_compose_publishes_one_port_to_other_machines() -> None:
    """Without the profile `tls`, whose proxy has two."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    ports = [port for name, service in services.items() if name != "caddy" for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == ["${PORT:-443}:8000"]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("MODEL_FOLDER", "{folder}/damaged", "cannot serve the model: .*the checksum differs"),
        ("MODEL_FOLDER", "{folder}/other", "cannot serve the model: .*/other: IndexError"),
        ("MODEL_FOLDER", "{folder}/missing", "cannot serve the model: .*No such file"),
        ("HISTORY_URL", "postgresql://me:s3cr3t@host/db?sslmode=on", "HISTORY_URL: "),
    ],
)
def test_what_cannot_be_served_stops_the_start(tmp_path: Path, name: str, value: str, why: str) -> None:
    """In one line without a password; test_classifier.py and test_settings.py have what else can be wrong."""
    for copy in ("damaged", "other"):
        shutil.copytree(SHIPPED, tmp_path / copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with (tmp_path / "damaged" / ARTIFACT).open("r+b") as artifact:
        artifact.truncate(5000)
    with np.load(SHIPPED / ARTIFACT) as arrays:  # its trees ask for signals that there are not
        wrong = {**arrays, "boosted.feature": np.full_like(arrays["boosted.feature"], 10_000, np.int32)}
    np.savez(tmp_path / "other" / ARTIFACT, **wrong)
    metrics = json.loads((SHIPPED / METRICS).read_text())
    metrics["artifact"]["sha256"] = sha256((tmp_path / "other" / ARTIFACT).read_bytes()).hexdigest()
    (tmp_path / "other" / METRICS).write_text(json.dumps(metrics))
    server = start_server(tmp_path, **{name: value.format(folder=tmp_path)})
    assert server.exit_code() != 0
    (line,) = server.log.read_text().splitlines()
    assert re.search(why, line)
    assert "s3cr3t" not in line
