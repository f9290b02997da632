"""`make release`: everything of a release has the one version."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.weights import SHIPPED
from tests.conftest import ROOT
from tests.engine import IMAGE, NETWORK, inspect, remove_images, sh

pytestmark = pytest.mark.docker
(VERSION,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder that `make release` has written."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    sh(f"make release DIST={folder} BUILD_NETWORK={NETWORK}")
    yield folder
    remove_images(f"{IMAGE}:{VERSION}")


def test_the_files_have_the_version_and_their_checksums_and_so_has_the_image(release: Path) -> None:
    expected = {
        f"bot_or_human-{VERSION}-py3-none-any.whl",
        f"turing_test_service-{VERSION}.bento",
        f"turing_test_service-{VERSION}.cdx.json",
    }
    assert {path.name for path in release.iterdir()} == {*expected, "SHA256SUMS"}
    sums = dict(line.split()[::-1] for line in (release / "SHA256SUMS").read_text().splitlines())
    assert sums == {name: hashlib.sha256((release / name).read_bytes()).hexdigest() for name in expected}
    assert inspect(f"{IMAGE}:{VERSION}")["Config"]["Labels"]["org.opencontainers.image.version"] == VERSION


def test_the_bento_can_be_imported_and_holds_what_is_served_and_nothing_else(release: Path, tmp_path: Path) -> None:
    archive = str(release / f"turing_test_service-{VERSION}.bento")
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"}
    subprocess.run([sys.executable, "-m", "bentoml", "import", archive], env=environment, check=True)
    source = tmp_path / "bentos/turing_test_service" / VERSION / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    served = sh("git ls-files -co --exclude-standard service.py 'models/*.py' records serving").splitlines()
    others = ("Dockerfile", "requirements.txt", "models/classifier.npz", "models/metrics.json", "bentofile.yaml")
    assert files == {*served, *others}
    assert (source / "models/classifier.npz").read_bytes() == (SHIPPED / "classifier.npz").read_bytes()


def test_the_bill_of_materials_lists_every_locked_package_with_its_hashes(release: Path) -> None:
    bill = json.loads((release / f"turing_test_service-{VERSION}.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["version"] == VERSION
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert sorted((part["name"], part["version"]) for part in bill["components"]) == sorted(locked)
    assert all(part["externalReferences"][0]["hashes"] for part in bill["components"])
