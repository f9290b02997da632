"""Settings: what is read, what is rejected, and what the documents say about them."""

import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from bentoml.exceptions import BentoMLConfigException

from serving.settings import Settings, read_settings
from tests.conftest import ROOT

NAMES = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def read(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings.__wrapped__()


def test_every_setting_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)
    assert settings.workers in (1, 2)
    assert (settings.max_concurrency, settings.max_body_bytes, settings.keep_alive_seconds) == (512, 2**20, 75)
    assert settings.keys == ()
    assert settings.store == Path("history").resolve() / "dialogs.sqlite"


@pytest.mark.parametrize(
    ("name", "value", "read_as"),
    [
        ("WORKERS", "3", 3),
        ("HISTORY_DAYS", "", None),
        ("HISTORY_FOLDER", "/chats", Path("/chats")),
        ("MONITORING", "/log", Path("/log")),
        ("OPEN_METRICS_AND_DOCS", "true", True),
        ("API_KEYS", "", ()),
        ("API_KEYS", " one,two , three", ("one", "two", "three")),
        ("HISTORY_URL", "sqlite:///some/file.sqlite", Path("some/file.sqlite").resolve()),
        ("CORS_ORIGINS", "*", ("*",)),
        ("CORS_ORIGINS", "http://localhost:3000, https://a.example", ("http://localhost:3000", "https://a.example")),
        ("CORS_ORIGINS", "http://[::1]:8080,chrome-extension://abc", ("http://[::1]:8080", "chrome-extension://abc")),
    ],
)
@pytest.mark.parametrize("end", ["", "\r"], ids=["", "from Windows"])
def test_a_value_is_read(monkeypatch: pytest.MonkeyPatch, name: str, value: str, read_as: object, end: str) -> None:
    """A carriage return at its end is no part of it, nor of what others read from the environment."""
    settings = read(monkeypatch, **{name: value + end})
    assert (settings.keys if name == "API_KEYS" else getattr(settings, name.lower())) == read_as
    assert os.environ[name] == value.strip()


def test_a_folder_or_file_is_resolved_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker that starts after a link has changed has the model and the dialogs of the others."""
    link, first = tmp_path / "current", tmp_path / "first"
    link.symlink_to(first)
    read(monkeypatch, MODEL_FOLDER=str(link), HISTORY_URL=f"sqlite:///{link}").export_paths()
    assert (os.environ["MODEL_FOLDER"], os.environ["HISTORY_URL"]) == (str(first), f"sqlite:///{first}")


def test_a_link_to_the_sqlite_file_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SQLite's log, whose size decides when it is moved into the database, is beside the file itself."""
    (tmp_path / "dialogs.sqlite").symlink_to(tmp_path / "disk" / "chats.sqlite")
    assert read(monkeypatch, HISTORY_FOLDER=str(tmp_path)).store == tmp_path / "disk" / "chats.sqlite"


def test_a_model_has_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BentoMLConfigException, match="MODEL: Set either MODEL or MODEL_FOLDER"):
        read(monkeypatch, MODEL="name:version", MODEL_FOLDER="models")


def test_keys_are_read_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From a Windows editor, too: with a byte order mark and carriage returns."""
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbfone\r\ntwo, three\r\n")
    settings = read(monkeypatch, API_KEYS_FILE=str(tmp_path / "keys"), API_KEYS="ignored")
    assert settings.keys == ("one", "two", "three")


def test_secrets_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, API_KEYS="very-secret", HISTORY_URL="postgresql://user:very-secret@host/database")
    assert "very-secret" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "0"),
        ("MAX_CONCURRENCY", "1e3"),
        ("KEEP_ALIVE_SECONDS", "3601"),
        ("HISTORY_DAYS", "nan"),
        ("HISTORY_DAYS", "0"),
        ("HISTORY_DAYS", "inf"),
        ("HISTORY_URL", "mysql://user:password@host/database"),
        ("MODEL", "no_such_model:1"),
        ("MODEL", "not a tag"),
        ("API_KEYS", " , "),
        ("API_KEYS_FILE", "/no/such/file"),
        ("API_KEYS_FILE", "/dev/null"),
        ("OPEN_METRICS_AND_DOCS", "maybe"),
        ("CORS_ORIGINS", "https://*.a.example"),
        ("CORS_ORIGINS", "https://A.example"),
        ("CORS_ORIGINS", "https://a.example:443"),
        ("CORS_ORIGINS", "http://[::1]:80800"),
        ("CORS_ORIGINS", "https://user:password@a.example"),
        ("EXPECTED_BOT_SHARE", "1"),
        ("EXPECTED_BOT_SHARE", "2%"),
        ("CORS_ORIGINS", "https://a.example, https://b.example/"),
    ],
)
def test_a_wrong_value_is_rejected_in_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(BentoMLConfigException) as error:
        read(monkeypatch, **{name: value})
    assert str(error.value).startswith(f"{name}: ")
    assert "\n" not in str(error.value)


def test_tracing_without_the_exporter_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(BentoMLConfigException, match="Install opentelemetry-exporter-otlp-proto-http"):
        read(monkeypatch, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")


def test_the_reference_documents_every_setting() -> None:
    table = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|$", (ROOT / "docs" / "reference.md").read_text(), re.M)
    documented = {name: description for name, _, description in table if name in NAMES}
    assert documented == {name.upper(): field.description for name, field in Settings.model_fields.items()}


def test_the_example_of_the_environment_file_names_every_setting() -> None:
    example = (ROOT / ".env.example").read_text()
    assert [name for name in NAMES if not re.search(rf"^#? ?{name}=", example, re.M)] == []


def test_compose_hands_on_every_setting() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    environment = compose["services"]["turing-test-service"]["environment"]
    assert set(NAMES) <= environment.keys()
    assert all(environment[name] in (None, f"${{{name}:-/history}}") for name in NAMES), "with the value of .env alone"
