"""The stores that the memory of dialogs is tested on: SQLite in a file, and a PostgreSQL cluster of the test's own."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

from tests.conftest import find_postgresql, free_port, wait_until


def _lives(pid: str) -> bool:
    """Tell whether a process is there and not only waiting for its parent to take notice of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Sqlite:
    """SQLite; it is stopped by holding its write lock."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sqlite-"))
        self.file = self._folder / "dialogs.sqlite"
        self.url = f"sqlite:///{self.file}"
        self._holder: sqlite3.Connection | None = None

    def stop(self) -> None:
        self._holder = sqlite3.connect(self.file, isolation_level=None)
        self._holder.execute("BEGIN EXCLUSIVE")

    def start(self) -> None:
        if self._holder:
            self._holder.close()
        self._holder = None

    def remove(self) -> None:
        self.start()
        shutil.rmtree(self._folder)

    def kill(self) -> None:
        """Do nothing: SQLite lives in the service's own processes."""

    def query(self, statement: str) -> list[str]:
        with sqlite3.connect(self.file, timeout=10) as connection:
            return [str(row[0]) for row in connection.execute(statement)]


class PostgreSql:
    """PostgreSQL on a free port, run as a user who is not root."""

    def __init__(self) -> None:
        self._bin = find_postgresql() or Path()
        # not in pytest's folders, which only their owner may enter
        self._data = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._port = free_port()
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as_user:
            shutil.chown(self._data, "postgres")
        self._run("initdb", "-D", self._data, "-U", "dialogs", "--auth=trust")
        self.url = f"postgresql://dialogs@127.0.0.1:{self._port}/postgres"

    def _run(self, program: str, *arguments: object) -> str:
        done = subprocess.run(
            [*self._as_user, str(self._bin / program), *map(str, arguments)],
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        command = [*self._as_user, str(self._bin / "pg_ctl"), "start", "-w", "-D", str(self._data)]
        command += ["-l", str(self._data / "log"), "-o", options]
        subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self._data)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._data)

    def kill(self) -> None:
        """Kill every process of the cluster with SIGKILL, and start it again."""
        pid = (self._data / "postmaster.pid").read_text().split()[0]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        subprocess.run(["kill", "-9", pid, *children], check=False)
        wait_until(lambda: not any(_lives(child) for child in [pid, *children]), 20)
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self.start()

    def query(self, statement: str) -> list[str]:
        return self._run("psql", "-At", self.url, "-c", statement).splitlines()
