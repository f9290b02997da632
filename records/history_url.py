"""Where dialogs are stored: `HISTORY_URL`, read as libpq reads it, and checked before anything connects.

No error quotes the URL: a character of the password that should have been encoded moves pieces of it anywhere.
"""

import os
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

ENCODE = "special characters have to be percent-encoded: / as %2F, # as %23, @ as %40, ? as %3F, % as %25"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
# Parameters of https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS, by what becomes of them.
_PLACE = ("host", "port", "user", "password", "dbname")
_PASSED_ON = (
    *_FILES,
    "sslmode",
    "sslpassword",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "passfile",
    "target_session_attrs",
    "krbsrvname",
    "gsslib",
)
_OF_THE_SESSION = ("application_name", "options")
_WITHOUT_EFFECT = (  # the service has its own timeout, speaks UTF-8, and does not use what the others tune
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "sslcompression",
    "sslsni",
    "load_balance_hosts",
    "pgbouncer",  # of Supabase's and Prisma's URLs
    "pool_timeout",
    "connection_limit",
)


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A SQLite file, by its absolute path."""

    file: Path


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A PostgreSQL database: its name for the log, and the arguments of `asyncpg.connect`."""

    name: str
    connect_arguments: Mapping[str, Any] = field(repr=False)


def parse_history_url(url: str) -> SqliteFile | PostgresAddress:
    """Read and check a URL; raises ValueError with one line, which holds nothing of the password.

    A relative path of a SQLite file is resolved against the current folder.
    """
    scheme, separator, rest = url.strip().partition("://")
    backend = scheme.lower().partition("+")[0]  # SQLAlchemy's URLs name a driver, as in postgresql+asyncpg
    if separator and backend == "sqlite":
        return _parse_sqlite(rest)
    if separator and backend in ("postgres", "postgresql"):
        return _parse_postgres(rest)
    raise ValueError("has to begin with postgresql:// or sqlite:///")


def resolve(path: Path) -> Path:
    """Return the absolute path without links; raises ValueError for a loop of links.

    `Path.resolve` raises another error for a loop, and none at all from Python 3.13 on.
    """
    resolved = Path(os.path.realpath(path))
    if os.path.islink(resolved):  # noqa: PTH114  # False, not an error, if this user may not look
        raise ValueError("is a loop of links")
    return resolved


def _parse_sqlite(rest: str) -> SqliteFile:
    name = rest.removeprefix("/")
    if name == rest or not name or name.startswith((":memory:", "file:")) or "?" in name:
        raise ValueError("has to name a file, as in sqlite:///dialogs.sqlite or sqlite:////history/dialogs.sqlite")
    file = resolve(Path(name))
    if os.path.isdir(file):  # noqa: PTH112  # False, not an error, if this user may not look
        raise ValueError("has to name a file, not a folder")
    return SqliteFile(file)


def _parse_postgres(rest: str) -> PostgresAddress:
    place, _, query = rest.partition("?")
    authority, _, database = place.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    if re.search(r"[\s#\x00-\x1f]|%(?![0-9A-Fa-f]{2})", rest) or "@" in credentials + database + query:
        raise ValueError(ENCODE)
    user, _, password = credentials.partition(":")
    parameters = _parse_parameters(query)
    # What stands in front of the query counts more than the same in it.
    user = _decode(user) or parameters.get("user", "")
    password = _decode(password) or parameters.get("password", "")
    database = _decode(database) or parameters.get("dbname", "")
    hosts = hosts or parameters.get("host", "")
    found = _parse_hosts(hosts.split(","), parameters.get("port", "5432").split(","))
    arguments: dict[str, Any] = {
        "host": [host for host, _ in found],
        "port": [port for _, port in found],
        "user": user or None,
        "password": password or None,
        "database": database or None,
        "server_settings": {name: parameters[name] for name in _OF_THE_SESSION if name in parameters},
    }
    passed_on = {name: parameters[name] for name in _PASSED_ON if name in parameters}
    _check_tls(passed_on)
    if passed_on.get("sslrootcert") == "system":  # which the driver takes for a file
        arguments["ssl"] = ssl.create_default_context()
        passed_on = {name: value for name, value in passed_on.items() if name not in ("sslmode", "sslrootcert")}
    arguments["dsn"] = f"postgresql://?{urlencode(passed_on)}" if passed_on else None
    return PostgresAddress(f"{','.join(f'{host}:{port}' for host, port in found)}/{database}", arguments)


def _parse_parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError("every parameter after the ? has to have a value, as in sslmode=require")
        parameters[_decode(name)] = _decode(value)
    if parameters.pop("ssl", "") == "true":  # of JDBC; libpq reads it in the same way
        parameters["sslmode"] = "require"
    if parameters.get("channel_binding") == "require":
        raise ValueError("channel_binding=require is not supported; leave it out, and use sslmode=verify-full")
    if parameters.pop("channel_binding", "prefer") not in ("prefer", "disable"):
        raise ValueError("channel_binding has to be disable or prefer")
    if parameters.get("target_session_attrs", "any") not in ("any", "read-write", "primary"):
        raise ValueError("target_session_attrs has to be any, read-write or primary: dialogs are written")
    for name in parameters:
        if name not in (*_PLACE, *_PASSED_ON, *_OF_THE_SESSION, *_WITHOUT_EFFECT):
            raise ValueError(f"the parameter {name} is not known")
    return parameters


def _parse_hosts(hosts: Sequence[str], default_ports: Sequence[str]) -> list[tuple[str, int]]:
    """Return hosts and ports; the default ports are one for all hosts, or one for each."""
    if len(default_ports) == 1:
        default_ports = [*default_ports] * len(hosts)
    if len(default_ports) != len(hosts):
        raise ValueError("there have to be as many ports as hosts, or one")
    return [_parse_host(host, port) for host, port in zip(hosts, default_ports, strict=True)]


def _parse_host(text: str, default_port: str) -> tuple[str, int]:
    matched = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::(\d*))?", text)
    host = _decode(matched[1]).strip("[]") if matched else ""
    if not host:
        raise ValueError("the host is missing or not valid, as in postgresql://user:password@host:5432/database")
    port = matched[2] if matched and matched[2] else default_port
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("the port has to be a number from 1 to 65535")
    return host, int(port)


def _check_tls(parameters: Mapping[str, str]) -> None:
    mode = parameters.get("sslmode", "prefer")
    if mode not in _SSL_MODES:
        raise ValueError(f"sslmode has to be one of {', '.join(_SSL_MODES)}")
    root = parameters.get("sslrootcert") or os.environ.get("PGSSLROOTCERT")
    if root == "system" and mode != "verify-full":
        raise ValueError("sslrootcert=system needs sslmode=verify-full")
    if mode.startswith("verify") and not root and not Path("~/.postgresql/root.crt").expanduser().is_file():
        raise ValueError(f"sslmode={mode} needs sslrootcert, a file with certificates of authorities, or system")
    for name in _FILES:
        file = parameters.get(name)
        if not file or file == "system":
            continue
        try:
            Path(file).read_bytes()
            if name == "sslrootcert":
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        except OSError as error:  # as are those of TLS
            raise ValueError(f"{name} cannot be read: {error.strerror or 'no certificates in it'}") from None


def _decode(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(ENCODE) from None
