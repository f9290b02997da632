"""`make release`: everything of a release has the one version."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.weights import SHIPPED
from tests.conftest import CURL_CHAT, ROOT, send
from tests.engine import NETWORK, container, inspect, remove_images

pytestmark = pytest.mark.docker
(VERSION,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


@dataclass
class Release:
    """What `make release` has built."""

    folder: Path
    image: str


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    folder = tmp_path_factory.mktemp("release") / "dist"
    command = ["make", "release", f"DIST={folder}", f"BUILD_NETWORK={NETWORK}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    image = f"turing_test_service:{VERSION}"
    yield Release(folder, image)
    remove_images(image)


def test_the_files_have_the_version_and_their_checksums(release: Release) -> None:
    expected = {
        f"bot_or_human-{VERSION}-py3-none-any.whl",
        f"turing_test_service-{VERSION}.bento",
        f"turing_test_service-{VERSION}.cdx.json",
    }
    assert {path.name for path in release.folder.iterdir()} == {*expected, "SHA256SUMS"}
    sums = dict(line.split()[::-1] for line in (release.folder / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: hashlib.sha256((release.folder / name).read_bytes()).hexdigest() for name in expected}


def test_the_bento_can_be_imported(release: Release, tmp_path: Path) -> None:
    archive = str(release.folder / f"turing_test_service-{VERSION}.bento")
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"}
    subprocess.run([sys.executable, "-m", "bentoml", "import", archive], env=environment, check=True)
    stored = tmp_path / "bentos/turing_test_service" / VERSION
    assert (stored / "src/models/classifier.npz").read_bytes() == (SHIPPED / "classifier.npz").read_bytes()


def test_the_image_has_the_version_and_answers(release: Release) -> None:
    assert inspect(release.image)["Config"]["Labels"]["org.opencontainers.image.version"] == VERSION
    with container(image=release.image) as started:
        assert send(f"{started.url}/predict", CURL_CHAT).status == 200


def test_the_bill_of_materials_lists_every_locked_package_with_its_hashes(release: Release) -> None:
    bill = json.loads((release.folder / f"turing_test_service-{VERSION}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["version"] == VERSION
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert sorted((part["name"], part["version"]) for part in bill["components"]) == sorted(locked)
    assert all(part["externalReferences"][0]["hashes"] for part in bill["components"])
