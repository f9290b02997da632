"""Settings: everything that the environment decides, in one class.

A wrong value stops the start with one line that names the variable, before a worker starts. Names, defaults and
docstrings are the source of the table in `docs/reference.md`; a test keeps both equal.
"""

import os
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml.exceptions import BentoMLConfigException, BentoMLException
from platformdirs import user_data_path
from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    AnyUrl,
    BeforeValidator,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.validation import check_share
from models.weights import SHIPPED
from records.history_url import PostgresAddress, parse_history_url


def _split(text: str) -> list[str]:
    """Split a comma-separated list; reject one that holds nothing."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ValueError("The list is empty; leave the variable out instead")
    return parts


def _check_origin(origin: str) -> str:
    """Reject what is neither an origin as browsers send it (RFC 6454, section 6.2) nor `*` for all of them."""
    is_one = re.fullmatch(r"[^/]+://[^/?#@*]+", origin) and str(AnyUrl(origin)).removesuffix("/") == origin
    if origin != "*" and not is_one:
        raise ValueError(
            "An origin is a scheme, a host in lower case and a port other than the default, as in https://a.example"
        )
    return origin


def _read_keys(file: str) -> list[str]:
    """Return the keys in a file, separated by commas or white space."""
    try:
        keys = Path(file).read_text(encoding="utf-8-sig").replace(",", " ").split()
    except OSError as error:
        raise ValueError(f"Cannot read {file}: {error.strerror}") from None
    if not keys:
        raise ValueError(f"There is no key in {file}")
    return keys


def _check_exporter(endpoint: AnyHttpUrl) -> AnyHttpUrl:
    """Reject an endpoint without the package that sends traces to it; workers would start again and again."""
    try:
        import_module("opentelemetry.exporter.otlp.proto.http")
    except ImportError:
        raise ValueError("Install opentelemetry-exporter-otlp-proto-http, which sends the traces") from None
    return endpoint


def say_who_cannot_write(folder: Path, error: OSError) -> str:
    """Return why a file in a folder cannot be written, and the command that helps if permission is missing."""
    if not isinstance(error, PermissionError):
        return f"{error.filename or folder}: {error.strerror}"
    user = f"{os.geteuid()}:{os.getegid()}"
    remedy = f"`chown -R {user}` that folder, in a container the one of the host that is mounted there"
    return f"{folder}: {error.strerror} for user {user}; {remedy}"


def _find_model(tag: str, info: ValidationInfo) -> str:
    """Return the full tag of a model in BentoML's store, so that all workers serve the same version."""
    if info.data.get("model_folder"):
        raise ValueError("Set either MODEL or MODEL_FOLDER")
    try:
        return str(bentoml.models.get(tag).tag)
    except OSError as error:
        who = f"User {os.geteuid()} of group {os.getegid()}"
        raise ValueError(f"{who} cannot read {error.filename}: {error.strerror}; `chmod -R a+rX` lets it") from None
    except (BentoMLException, ValueError):
        store = BentoMLContainer.model_store_dir.get()
        raise ValueError(f"There is no model {tag} in {store}; `bentoml models list` shows those that exist") from None


def _default_history_folder() -> Path:
    """Return the folder `history`, or for a Bento, which must not change by being served, the user's data folder."""
    is_in_bento = (Path(__file__).parents[2] / "bento.yaml").is_file()
    return user_data_path("turing_test_service") / "history" if is_in_bento else Path("history")


Folder = Annotated[Path, AfterValidator(lambda folder: Path(os.path.realpath(folder)))]
Keys = Annotated[tuple[SecretStr, ...], NoDecode]
Origin = Annotated[str, AfterValidator(_check_origin)]


class Settings(BaseSettings):
    """The variables of the environment, by their names in lower case."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=False,
    )

    workers: int = Field(default=min(2, os.cpu_count() or 1), ge=1, le=256)
    """Worker processes, each with its own copy of the model."""
    max_concurrency: int = Field(default=512, ge=1, le=100_000)
    """Requests in flight, over all workers; further ones get 429."""
    max_body_bytes: int = Field(default=2**20, ge=1, le=2**26)
    """Largest request body; larger ones get 413."""
    keep_alive_seconds: int = Field(default=75, ge=1, le=3600)
    """How long an idle connection is kept; longer than the load balancer in front does."""

    model_folder: Folder | None = None
    """Folder with another model (`classifier.npz` and `metrics.json`) in place of the shipped one."""
    model: Annotated[str, AfterValidator(_find_model)] | None = None
    """Tag of another model in BentoML's model store, as in `bot_or_human:latest`."""
    expected_bot_share: Annotated[float, AfterValidator(check_share)] | None = None
    """Share of bots among the participants whose chats are scored, between 0 and 1."""

    history_url: Annotated[Path | PostgresAddress | None, NoDecode, PlainValidator(parse_history_url)] = None
    """Where dialogs are stored: `postgresql://user:password@host/database` or `sqlite:///file`."""
    history_folder: Folder = Field(default_factory=_default_history_folder, validate_default=True)
    """Folder of the SQLite file, without `HISTORY_URL`."""
    history_days: float | None = Field(default=None, gt=0, le=36_500)
    """Dialogs without a message for this many days are deleted."""

    api_keys: Annotated[Keys, BeforeValidator(_split)] = ()
    """Comma-separated keys; each request then needs one as its bearer token."""
    api_keys_file: Annotated[Keys, BeforeValidator(_read_keys)] = ()
    """File with the keys, such as a Docker secret; takes the place of `API_KEYS`."""
    open_metrics_and_docs: bool = False
    """Whether metrics and Swagger UI need no key where predictions do."""
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_split)] = ()
    """Comma-separated origins whose pages may call the service from a browser."""

    monitoring: Folder | None = None
    """Folder of the monitoring log: what the classifier saw and answered, as numbers, without texts."""
    monitoring_max_mb: int = Field(default=100, ge=10, le=1_000_000)
    """Size of the monitoring log, over all workers; the oldest lines are deleted first."""
    log_format: Literal["text", "json"] = "text"
    """`json` for a JSON object in each line of the log, in place of `text`."""
    otel_exporter_otlp_endpoint: Annotated[AnyHttpUrl, AfterValidator(_check_exporter)] | None = None
    """Where traces are sent as OTLP over HTTP, such as `http://localhost:4318`."""
    otel_traces_sampler_arg: float = Field(default=1.0, ge=0, le=1)
    """Share of requests that are traced."""

    @property
    def folder_of_model(self) -> Path:
        """The folder of the model to serve."""
        return Path(bentoml.models.get(self.model).path) if self.model else self.model_folder or SHIPPED

    @property
    def tracing(self) -> dict[str, Any]:
        """BentoML's `tracing` option; the exporter reads the endpoint and other variables of OpenTelemetry itself."""
        if self.otel_exporter_otlp_endpoint is None:
            return {}
        return {"exporter_type": "otlp", "sample_rate": self.otel_traces_sampler_arg, "otlp": {"protocol": "http"}}

    @property
    def keys(self) -> tuple[str, ...]:
        """The API keys, those of the file if there is one; without any, the service is open."""
        return tuple(key.get_secret_value() for key in self.api_keys_file or self.api_keys)

    @property
    def store(self) -> Path | PostgresAddress:
        """Where dialogs are stored; beside the SQLite file itself, not beside a link, are SQLite's others."""
        return self.history_url or Path(os.path.realpath(self.history_folder / "dialogs.sqlite"))

    def export_paths(self) -> None:
        """Put absolute paths and the model's full tag into the environment, where all workers find the same."""
        if isinstance(self.history_url, Path):
            os.environ["HISTORY_URL"] = f"sqlite:///{self.history_url}"
        for name in ("history_folder", "monitoring", "model", "model_folder"):
            if value := getattr(self, name):
                os.environ[name.upper()] = str(value)


@cache
def read_settings() -> Settings:
    """Read the settings; raises BentoMLConfigException, which names the variable and what is wrong with its value."""
    for name in map(str.upper, Settings.model_fields):
        if name in os.environ:  # a line of a file from Windows ends in a carriage return
            os.environ[name] = os.environ[name].strip()
    try:
        return Settings()
    except ValidationError as error:
        (wrong, *_) = error.errors(include_input=False, include_url=False, include_context=False)
        message = wrong["msg"].removeprefix("Value error, ")
        raise BentoMLConfigException(f"{str(wrong['loc'][0]).upper()}: {message}") from None
