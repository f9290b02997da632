"""Where dialogs are stored: `HISTORY_URL`, checked before anything connects.

The PostgreSQL driver reads the parameters. What precedes them is split here, because each host is tried by itself, and
no error may quote the URL, as a character of the password that should have been encoded moves pieces of it anywhere.
"""

import codecs
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

NOT_VALID = (
    "is not valid, as postgresql://user:password@host:5432/database is; special characters have to be percent-encoded:"
    " / as %2F, # as %23, @ as %40, ? as %3F, % as %25"
)
# user, password, hosts, database and parameters, nowhere with a character that has to be encoded
_PARTS = re.compile(
    r"(?!.*(?:[\s#\x00-\x1f]|%(?![0-9A-Fa-f]{2})))"
    r"(?:([^:@/?]*)(?::([^@/?]*))?@)?([^@/?]*)(?:/([^@?]*))?(?:\?([^@]*))?",
    re.DOTALL,
)
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|/.+|[^:\[\]]+)(?::([0-9]+))?")
# Parameters of https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS. The driver hands those
# that it does not know on to the server, which would refuse to connect.
_KNOWN = re.compile(
    "host|port|user|password|dbname|passfile|krbsrvname|gsslib|target_session_attrs|application_name|options"
    "|ssl(mode|rootcert|cert|key|crl|password|negotiation|_min_protocol_version|_max_protocol_version)"
)
# The service has its own timeout, speaks UTF-8, and does not use what the others tune.
_WITHOUT_EFFECT = re.compile(
    "connect_timeout|tcp_user_timeout|keepalives(_idle|_interval|_count)?|client_encoding|fallback_application_name"
    "|gssencmode|sslcompression|sslsni|load_balance_hosts|channel_binding"
    "|pgbouncer|pool_timeout|connection_limit"  # of Supabase's and Prisma's URLs
)


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """A PostgreSQL database: its name for the log, and the arguments of `asyncpg.connect`."""

    name: str
    connect_arguments: Mapping[str, Any] = field(repr=False)


def parse_history_url(url: str) -> Path | PostgresAddress:
    """Read and check a URL; raises ValueError with one line, which holds nothing of the password.

    Returns the absolute path of a SQLite file, relative to the current folder in the URL, or the address of PostgreSQL.
    """
    scheme, _, rest = url.strip().partition("://")
    match scheme.lower().partition("+")[0]:  # SQLAlchemy's URLs name a driver, as in postgresql+asyncpg
        case "sqlite":
            return _parse_sqlite(rest)
        case "postgres" | "postgresql":
            return _parse_postgres(rest)
    raise ValueError("has to begin with postgresql:// or sqlite:///")


def _parse_sqlite(rest: str) -> Path:
    name = rest.removeprefix("/")
    if name == rest or not name or name.startswith((":memory:", "file:")) or "?" in name:
        raise ValueError("has to name a file, as in sqlite:///dialogs.sqlite or sqlite:////history/dialogs.sqlite")
    return Path(os.path.realpath(name))  # beside the file itself, not beside a link, are SQLite's others


def _parse_postgres(rest: str) -> PostgresAddress:
    parts = _PARTS.fullmatch(rest)
    if not parts:
        raise ValueError(NOT_VALID)
    user, password, hosts, database, query = parts.groups("")
    parameters = _parse_parameters(query)
    places = _parse_hosts(hosts or parameters.get("host", ""), parameters.pop("port", "5432"))
    arguments: dict[str, Any] = {
        "host": [host for host, _ in places],
        "port": [port for _, port in places],
        "user": unquote(user) or None,
        "password": unquote(password) or None,
        "database": unquote(database) or None,
    }
    if parameters.get("sslrootcert") == "system":  # which the driver takes for a file; it stands for `verify-full`
        arguments["ssl"] = ssl.create_default_context()
        del parameters["sslrootcert"]
    _check_files(parameters)
    arguments["dsn"] = f"postgresql://?{urlencode(parameters)}" if parameters else None
    database = arguments["database"] or parameters.get("dbname", "")
    return PostgresAddress(f"{','.join(f'{host}:{port}' for host, port in places)}/{database}", arguments)


def _parse_parameters(query: str) -> dict[str, str]:
    # libpq takes a plus sign for itself
    parameters = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    if parameters.pop("ssl", "") == "true":  # of JDBC; libpq reads it in the same way
        parameters["sslmode"] = "require"
    if parameters.get("channel_binding") == "require":  # of Neon's URLs
        raise ValueError("channel_binding=require is not supported; leave it out, and use sslmode=verify-full")
    parameters = {name: value for name, value in parameters.items() if not _WITHOUT_EFFECT.fullmatch(name)}
    for name, value in parameters.items():
        if not _KNOWN.fullmatch(name):
            if parameters.keys() & {"password", "sslpassword"}:  # the name may be what follows an & in it
                raise ValueError("a parameter is not known; & in a password has to be percent-encoded, as %26")
            raise ValueError(f"the parameter {name} is not known")
        if not value:
            raise ValueError(f"the parameter {name} has to have a value")
    return parameters


def _parse_hosts(hosts: str, ports: str) -> list[tuple[str, int]]:
    """Return hosts and ports; `ports` holds one for all hosts that name none, or one for each."""
    defaults = ports.split(",") if "," in ports else [ports] * (hosts.count(",") + 1)
    places = []
    for place, default in zip_longest(hosts.split(","), defaults, fillvalue=""):
        match = _HOST_AND_PORT.fullmatch(place)
        port = (match and match[2]) or default
        if not match or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(NOT_VALID)
        places.append((unquote(match[1]).strip("[]"), int(port)))
    return places


def _check_files(parameters: Mapping[str, str]) -> None:
    """Raise ValueError if a file cannot be read; the driver would raise what a server that does not answer raises."""
    for name in parameters.keys() & {"sslrootcert", "sslcert", "sslkey", "sslcrl"}:
        try:
            if Path(parameters[name]).read_bytes().startswith(codecs.BOM_UTF8):  # which OpenSSL does not skip
                raise ValueError(f"{name} begins with a byte order mark; save {parameters[name]} without it")
            if name == "sslrootcert":
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(parameters[name])
        except OSError as error:  # as are those of TLS
            raise ValueError(f"{name} cannot be read: {error.strerror or 'no certificates in it'}") from None
