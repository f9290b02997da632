"""`HISTORY_URL` as it is written in the consoles of providers, and as people write it by mistake."""

from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from records.history_url import PostgresAddress, parse_history_url

PIECE = "s3cr3t"


def postgres(url: str) -> PostgresAddress:
    address = parse_history_url(url)
    assert isinstance(address, PostgresAddress)
    return address


def test_a_url_names_host_port_user_password_and_database() -> None:
    arguments = postgres("PostgreSQL+asyncpg://me:pass@db.example.com:6432/chats").connect_arguments
    named = {"host": ["db.example.com"], "port": [6432], "user": "me", "password": "pass", "database": "chats"}
    assert named.items() <= arguments.items()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgres://host", "host:5432/"),
        ("postgresql://[::1]:5433/db", "::1:5433/db"),
        ("postgresql://a:1,b:2/db", "a:1,b:2/db"),
        ("postgresql://u@%2Frun%2Fpostgresql/db", "/run/postgresql:5432/db"),
        ("postgresql:///db?host=/cloudsql/project:region:instance", "/cloudsql/project:region:instance:5432/db"),
        ("postgresql:///db?host=a,b&port=5433,5434", "a:5433,b:5434/db"),
        ("postgresql:///db?host=a,b&port=5433", "a:5433,b:5433/db"),
        ("postgresql://?host=h&user=u&password=p&dbname=d", "h:5432/d"),
    ],
)
def test_other_ways_to_name_the_place(url: str, name: str) -> None:
    assert postgres(url).name == name


@pytest.mark.parametrize(("password", "safe"), [("/#@?%: []$пароль", ""), ("a:b[c]=d&e$f", ":[]=&$")])
def test_a_password_is_read_as_libpq_reads_it(password: str, safe: str) -> None:
    address = postgres(f"postgresql://me:{quote(password, safe=safe)}@host/db")
    assert address.connect_arguments["password"] == password
    assert password not in repr(address)


@pytest.mark.parametrize("character", ["/", "#", "@", "?", "%", " ", "\n"])
def test_a_password_that_is_not_encoded_is_refused_and_not_shown(character: str) -> None:
    for password in (f"{PIECE}{character}{PIECE}", f"{character}{PIECE}", f"{PIECE}{character}", f"1{character}2"):
        for rest in ("host/db", "host:5432/db?sslmode=require"):
            with pytest.raises(ValueError, match="percent-encoded") as refused:
                parse_history_url(f"postgresql://me:{password}@{rest}")
            assert PIECE not in str(refused.value)
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "has to begin with"),
        (f"mysql://me:{PIECE}@host/db", "has to begin with"),
        (f"postgresql://me:{PIECE}@/db", "is not valid"),
        (f"postgresql://me:{PIECE}", "is not valid"),
        (f"postgresql://me:{PIECE}@host:65536/db", "is not valid"),
        ("postgresql://host:0/db", "is not valid"),
        ("postgresql:///db?host=a,b,c&port=1,2", "is not valid"),
        ("postgresql://host/db?sslmode", "sslmode has to have a value"),
        ("postgresql://host/db?ssl_mode=require", "parameter ssl_mode is not known"),
        (f"postgresql://host/db?password=a&{PIECE}", "percent-encoded, as %26"),
        (f"postgresql://host/db?{PIECE}=b&sslpassword=a", "percent-encoded, as %26"),
        ("postgresql://host/db?channel_binding=require", "channel_binding=require is not supported"),
        ("postgresql://host/db?sslmode=verify-ca&sslrootcert=/nowhere.crt", "sslrootcert cannot be read: No such file"),
        ("postgresql://host/db?sslmode=require&sslcert=/nowhere.crt", "sslcert cannot be read: No such file"),
        ("postgresql://host/db?sslmode=verify-ca&sslrootcert={not_a_certificate}", "sslrootcert cannot be read"),
        ("postgresql://host/db?sslmode=require&sslcert={marked}", "sslcert begins with a byte order mark"),
        ("sqlite://dialogs.sqlite", "has to name a file"),
        ("sqlite:///:memory:", "has to name a file"),
        ("sqlite:///file:dialogs?mode=memory", "has to name a file"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    url: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("no certificate")
    (tmp_path / "marked").write_text("-----BEGIN CERTIFICATE-----", encoding="utf-8-sig")
    with pytest.raises(ValueError, match=why) as refused:
        parse_history_url(url.format(not_a_certificate=tmp_path / "file", marked=tmp_path / "marked"))
    assert "\n" not in str(refused.value)
    assert PIECE not in str(refused.value)


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=require&channel_binding=prefer",
        "application_name=chats&connect_timeout=10",
        "options=endpoint%3Dquiet-river-123456",
        "sslmode=disable&target_session_attrs=read-write",
        "pgbouncer=true&connection_limit=1",
        "keepalives=1&keepalives_idle=30",
    ],
)
def test_what_consoles_of_providers_show_is_taken(query: str) -> None:
    address = postgres(f"postgresql://me:pass@host/db?{query}")
    handed_on = dict(parse_qsl(urlsplit(address.connect_arguments["dsn"] or "").query))
    assert handed_on.keys() <= {"sslmode", "application_name", "options", "target_session_attrs"}
    assert handed_on.items() <= dict(parse_qsl(query)).items()


def test_a_path_of_a_sqlite_file_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_history_url("sqlite:///chats.sqlite") == tmp_path / "chats.sqlite"
    assert parse_history_url(f"sqlite:///{tmp_path}/a b/c%20d.sqlite") == tmp_path / "a b" / "c%20d.sqlite"
