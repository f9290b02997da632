"""The files around the code agree with each other and with the code."""

import ast
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from serving.base_image import read_base
from tests.conftest import ROOT, TIERS

MAKEFILE = (ROOT / "Makefile").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = set(" ".join(re.findall(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)).split())


def test_documents_name_files_and_targets_of_make_that_exist() -> None:
    missing = []
    for file in (file for pattern in ("*.md", "*/*.md", ".github/workflows/*") for file in ROOT.glob(pattern)):
        text = file.read_text()
        targets = re.findall(r"(?:^|`|run: )make (\w+)", text, re.MULTILINE)
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
        missing += [(file.name, target) for target in targets if target not in TARGETS]
        missing += [(file.name, link) for link in links if not (file.parent / link).exists()]
    named = re.findall(r"`([\w.-]*/[\w./-]*|[\w.-]+\.(?:py|md|in|toml))`", CONTRIBUTING)
    assert [*missing, *(path for path in named if not (ROOT / path).exists())] == []
    assert set(re.findall(r"^# make (\w+)", MAKEFILE, re.MULTILINE)) == TARGETS, "the Makefile describes each"


def test_contributing_lists_the_tiers_of_tests() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", CONTRIBUTING, re.MULTILINE)
    assert sorted(listed) == sorted(["unit", *TIERS, "docker"])
    markers = [marker.split(":")[0] for marker in PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    assert set(listed) <= set(markers)


def test_the_same_versions_of_python_are_supported_everywhere() -> None:
    (listed,) = re.findall(r"^PYTHON_VERSIONS := (.*)$", MAKEFILE, re.MULTILINE)
    versions = listed.split()
    assert PYPROJECT["project"]["requires-python"] == f">={versions[0]}"
    assert PYPROJECT["project"]["classifiers"] == [
        f"Programming Language :: Python :: {version}" for version in versions
    ]
    assert PYPROJECT["tool"]["mypy"]["python_version"] == versions[0]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == versions
    for document in ("README.md", "CONTRIBUTING.md", "docs/operation.md"):
        assert f"Python {versions[0]} to {versions[-1]}" in (ROOT / document).read_text(), document
    assert read_base()["python_version"] in versions


def test_the_first_python_that_fits_is_used_and_without_one_make_names_the_next_step() -> None:
    def serve(pythons: str) -> "subprocess.CompletedProcess[str]":
        command = ["make", "-n", f"PYTHON={pythons}", "VENV=no-such-folder", "serve"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    (line,) = serve("no-such-python false").stderr.splitlines()
    for part in ("tried: no-such-python false", "python3-venv", "uv venv", "docker build"):
        assert part in line
    made = serve(f"false {sys.executable} no-such-python").stdout.splitlines()[0]
    assert made == f"{sys.executable} -m venv --clear no-such-folder"


@pytest.mark.parametrize(("given", "version"), [("python:3.12-slim", "3.12"), ("python:slim", None), ("", None)])
def test_the_base_image_names_its_python(monkeypatch: pytest.MonkeyPatch, given: str, version: str | None) -> None:
    monkeypatch.delenv("BASE_IMAGE", raising=False)
    default = read_base()
    assert default["base_image"] == f"python:{default['python_version']}-slim"
    named = given and f"mirror.example:5000/{given}"
    monkeypatch.setenv("BASE_IMAGE", named)
    python = version or default["python_version"]
    assert read_base() == {"base_image": named or default["base_image"], "python_version": python}


def test_the_changelog_names_the_version_and_its_date() -> None:
    version = re.escape(PYPROJECT["project"]["version"])
    assert re.search(rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_a_release_checks_its_tag() -> None:
    (job,) = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"].values()
    (check,) = [step["run"] for step in job["steps"] if step.get("name") == "The tag is the version"]
    version = PYPROJECT["project"]["version"]
    for tag, code in ((f"v{version}", 0), ("v9.9.9", 1), (f"v{version}.1", 1)):
        done = subprocess.run(["bash", "-c", check], cwd=ROOT, env={**os.environ, "GITHUB_REF_NAME": tag}, check=False)
        assert done.returncode == code, tag


def test_actions_are_pinned_by_their_hash() -> None:
    used = [
        use for file in (ROOT / ".github/workflows").iterdir() for use in re.findall(r"uses: (.+)", file.read_text())
    ]
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", use)] == []


def package_of(module: str) -> str | None:
    """Return the package of a module by its name in the picture; None for those that are not shown."""
    package, name, *_ = f"{module}.".split(".")
    if package == "serving" and name in ("http", "dialogs", "scoring", "page", "backup"):
        return name
    return package if package in ("serving", "records", "train", "service") else None


def test_the_picture_of_the_packages_shows_their_imports() -> None:
    folders = ("serving", "records", "train")
    imports = set()
    for file in (ROOT / "service.py", *(file for folder in folders for file in (ROOT / folder).rglob("*.py"))):
        own = package_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                others = {package_of(f"{node.module}.{name.name}") for name in node.names}
                imports |= {(own, other) for other in others if other not in (own, None)}
    design = (ROOT / "docs/design.md").read_text()
    assert set(re.findall(r"^    (\w+)(?:\[.*\])? --> (\w+)$", design, re.MULTILINE)) == imports
