"""What the image of a Bento is given beyond BentoML's Dockerfile."""

from pathlib import Path

import pytest

import containerize
from tests.conftest import ROOT

OF_BENTOML = 'FROM base\nEXPOSE 3000\n\n# Expose Prometheus port\nEXPOSE 3001\nUSER bentoml\nENTRYPOINT [ "entry" ]\n'


def test_the_ports_of_bentoml_make_way_for_the_lines_of_the_projects_dockerfile() -> None:
    lines = containerize.amend(OF_BENTOML).splitlines()
    assert [line for line in lines if line.startswith("EXPOSE")] == ["EXPOSE 8000"]
    assert lines[-1] == (ROOT / "Dockerfile").read_text().splitlines()[-1]
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert 'ENTRYPOINT [ "entry" ]' in lines


def test_a_dockerfile_without_them_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Dockerfile").write_text("FROM base\n")
    monkeypatch.setattr(containerize, "DOCKERFILE", tmp_path / "Dockerfile")
    with pytest.raises(ValueError, match="From here on for both images"):
        containerize.amend(OF_BENTOML)


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("https://user:token@git.example/group/project.git", "https://git.example/group/project.git"),
        ("https://git.example/group/project", "https://git.example/group/project"),
        ("git@git.example:group/project.git", "unknown"),
        ("/a/folder", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_source_is_a_web_address_without_credentials(
    monkeypatch: pytest.MonkeyPatch, remote: str, source: str
) -> None:
    monkeypatch.setattr(containerize, "_git", lambda *_: remote)
    assert containerize.source() == source


def test_outside_of_git_the_revision_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containerize, "DOCKERFILE", tmp_path / "Dockerfile")
    assert containerize.revision() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert containerize.revision() == "unknown"
