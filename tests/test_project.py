"""The files around the code agree with each other and with the code."""

import re
import tomllib

import pytest
import yaml

from tests.conftest import ROOT, TIERS

MAKEFILE = (ROOT / "Makefile").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = set(" ".join(re.findall(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)).split())


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", ".github/workflows/ci.yml"]
)
def test_documents_name_make_targets_that_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = set(re.findall(r"(?:^|`|run: )make (\w+)", text, re.MULTILINE))
    assert named
    assert named <= TARGETS


def test_the_makefile_describes_its_targets() -> None:
    assert set(re.findall(r"^# make (\w+)", MAKEFILE, re.MULTILINE)) == TARGETS


def test_contributing_names_files_that_exist() -> None:
    named = re.findall(r"`([\w.-]*/[\w./-]*|[\w.-]+\.(?:py|md|in|toml))`", CONTRIBUTING)
    assert "serving/settings.py" in named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_contributing_lists_the_tiers_of_tests() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", CONTRIBUTING, re.MULTILINE)
    assert sorted(listed) == sorted(["unit", *TIERS, "docker"])
    markers = [marker.split(":")[0] for marker in PYPROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    assert set(listed) <= set(markers)


def test_every_test_belongs_to_one_tier(request: pytest.FixtureRequest) -> None:
    tiers = {"unit", *TIERS, "docker"}
    for item in request.session.items:
        assert len(tiers & {marker.name for marker in item.iter_markers()}) == 1, item.nodeid


def test_one_version_of_python_is_supported_everywhere() -> None:
    (version,) = re.findall(r"^PYTHON_VERSION := (\S+)$", MAKEFILE, re.MULTILINE)
    major, minor = version.split(".")
    assert PYPROJECT["project"]["requires-python"] == f">={version},<{major}.{int(minor) + 1}"
    assert f'"python:{version}-slim"' in (ROOT / "service.py").read_text()
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["check"]["steps"][1]["with"]["python-version"] == version


def test_pre_commit_runs_what_make_lint_runs() -> None:
    (recipe,) = re.findall(r"^lint: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].removesuffix(" --force-exclude") for hook in repository["hooks"]]
    assert hooks == [line.strip().removesuffix(" .").replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]


def test_the_changelog_names_the_version() -> None:
    assert PYPROJECT["project"]["version"] in (ROOT / "CHANGELOG.md").read_text()
