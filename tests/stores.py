"""The stores that dialogs are tested on: SQLite in a file, one PostgreSQL cluster for all tests, and PgBouncer."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

import psutil
import pytest

from tests.conftest import find, find_postgresql, free_port, wait_until

NO_ROOT = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # for programs that refuse to run as root


def run(*command: object, as_user: bool = True) -> str:
    """Run a program of PostgreSQL; returns what it printed on both streams."""
    done = subprocess.run(
        [*(NO_ROOT if as_user else []), *map(str, command)],
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def make_certificate(host: str, certificate: Path, key: Path, as_user: bool = False) -> None:
    """Make a key and a certificate for a host name, signed with that key."""
    command = ["openssl", "req", "-new", "-x509", "-days", "2", "-nodes", "-subj", f"/CN={host}"]
    run(*command, "-addext", f"subjectAltName=DNS:{host}", "-out", certificate, "-keyout", key, as_user=as_user)


def lives(pid: int) -> bool:
    """Return whether a process exists and is not only waiting for its parent to take notice of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Sqlite:
    """A SQLite file; it is stopped by holding its write lock."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "dialogs.sqlite"
        self.url = f"sqlite:///{self.file}"
        self._holder: sqlite3.Connection | None = None

    def stop(self) -> None:
        self._holder = sqlite3.connect(self.file, isolation_level=None)
        self._holder.execute("BEGIN EXCLUSIVE")

    def start(self) -> None:
        if self._holder:
            self._holder.close()
        self._holder = None

    def kill(self) -> None:
        """Do nothing: SQLite lives in the service's own processes."""

    def query(self, *statements: str) -> list[str]:
        """Run statements in one transaction; returns the first column of their rows."""
        with closing(sqlite3.connect(self.file, timeout=10)) as connection, connection:
            return [str(row[0]) for statement in statements for row in connection.execute(statement)]

    def empty(self) -> None:
        """Remove all tables."""
        self.file.unlink(missing_ok=True)


class PostgreSql:
    """PostgreSQL on a free port, run as a user who is not root."""

    def __init__(self) -> None:
        self._bin = find_postgresql() or Path()
        self.data = Path(tempfile.mkdtemp(prefix="postgresql-"))  # its user may not enter pytest's folders
        if NO_ROOT:
            shutil.chown(self.data, "postgres")
        self.port = free_port()
        self.url = self.url_of()
        run(self._bin / "initdb", "-D", self.data, "-U", "dialogs", "--auth=trust", "--encoding=UTF8")

    def url_of(self, user: str = "dialogs", host: str = "127.0.0.1", database: str = "postgres") -> str:
        return f"postgresql://{user}@{host}:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        run(self._bin / "pg_ctl", "start", "-w", "-D", self.data, "-l", self.data / "log", "-o", options)

    def stop(self) -> None:
        run(self._bin / "pg_ctl", "stop", "-w", "-m", "fast", "-D", self.data)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.data)

    def _each(self, do: Callable[[psutil.Process], None]) -> list[int]:
        """Do something to every process; returns their ids."""
        server = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        processes = [server, *server.children()]
        for process in processes:
            with suppress(psutil.NoSuchProcess):  # one that has ended since they were listed
                do(process)
        return [process.pid for process in processes]

    def freeze(self) -> None:
        """Stop every process in the middle of what it does; the kernel goes on accepting connections."""
        self._each(psutil.Process.suspend)

    def thaw(self) -> None:
        self._each(psutil.Process.resume)

    def kill(self) -> None:
        """Kill every process of the cluster with SIGKILL, and start it again."""
        killed = self._each(psutil.Process.kill)
        wait_until(lambda: not any(map(lives, killed)), 20)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self.start()

    def query(self, *statements: str, database: str = "postgres") -> list[str]:
        """Run each statement in a transaction of its own; returns the lines that were printed."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return run(self._bin / "psql", "-qAt", self.url_of(database=database), *commands).splitlines()

    def empty(self) -> None:
        """Remove all tables."""
        self.query("DROP TABLE IF EXISTS messages, messages_version")

    def secure(self, host: str, password: str) -> Path:
        """Let in only who speaks TLS and knows the password; returns the certificate for a host name."""
        certificate = self.data / "server.crt"
        make_certificate(host, certificate, self.data / "server.key", as_user=True)
        self.query(
            "SET password_encryption = 'scram-sha-256'",
            f"ALTER ROLE dialogs PASSWORD '{password}'",
            "ALTER SYSTEM SET ssl = on",
        )
        (self.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        self.stop()
        self.start()
        return certificate


Store = Sqlite | PostgreSql
BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSql]:
    """Return the PostgreSQL of all tests, which may hold tables of others."""
    made = PostgreSql()
    made.start()
    yield made
    made.remove()


def empty_store(request: pytest.FixtureRequest, folder: Path) -> Store:
    """Return a store without tables, for a fixture with the parameters `BOTH`."""
    store: Store = Sqlite(folder) if request.param == "sqlite" else request.getfixturevalue("postgresql")
    store.empty()
    return store


@contextmanager
def pgbouncer(behind: PostgreSql, folder: Path) -> Iterator[str]:
    """Run PgBouncer in transaction mode, with two connections for all clients; yields the URL of the database."""
    port = free_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(f"""[databases]
postgres = host=127.0.0.1 port={behind.port} user=dialogs
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
""")
    user = ["-u", "postgres"] if NO_ROOT else []
    process = subprocess.Popen([find("pgbouncer") or "pgbouncer", "-q", *user, str(configuration)])
    try:
        yield f"postgresql://dialogs@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(10)


class SmallDisk:
    """A small file system."""

    def __init__(self, folder: Path, megabytes: int = 1) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/dialogs.sqlite"
        self._size = f"size={megabytes}m"
        self._filler = folder / "filler"

    def __enter__(self) -> Self:
        run("mount", "-t", "tmpfs", "-o", self._size, "tmpfs", self.folder, as_user=False)
        return self

    def __exit__(self, *_: object) -> None:
        run("umount", "-l", self.folder, as_user=False)

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1024)):
                pass

    def clear(self) -> None:
        self._filler.unlink()
