"""Replicas of the service as containers, on one PostgreSQL, behind an HAProxy that follows `/readyz`."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import answering, find, free_port, is_ready, start, wait_until
from tests.engine import IMAGE, docker, inspect

SLOTS = 4  # places for containers that the proxy knows
PASSWORD = "of-the-test"  # noqa: S105

HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 10s
  timeout check 2s
  option redispatch
  option httpchk GET /readyz
  http-check expect status 200
frontend service
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance leastconn
  http-after-response set-header x-slot %[srv_name]
  default-server check inter 200ms fall 1 rise 1
{servers}
"""


@dataclass
class Replicas:
    """Containers of the service by slot, each slot with a port of its own that the proxy knows."""

    network: str
    ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(SLOTS)])
    names: dict[int, str] = field(default_factory=dict)
    started: Iterator[int] = field(default_factory=itertools.count)

    def url(self, slot: int) -> str:
        return f"http://127.0.0.1:{self.ports[slot]}"

    def start(self, slot: int) -> None:
        """Start a container in a free slot, and wait until it is ready."""
        name = f"{self.network}-{next(self.started)}"
        store = f"postgresql://dialogs:{PASSWORD}@{self.network}-store/dialogs"
        published = f"127.0.0.1:{self.ports[slot]}:8000"
        docker("create", "--name", name, "-p", published, "-e", "WORKERS=1", "-e", f"HISTORY_URL={store}", IMAGE)
        self.names[slot] = name
        docker("network", "connect", self.network, name)
        docker("start", name)
        wait_until(lambda: is_ready(self.url(slot)))

    def stop(self, slot: int) -> None:
        """End a container in order: SIGTERM, and SIGKILL after 10 s, as Docker does."""
        name = self.names[slot]
        docker("stop", name)
        assert inspect(name)["State"]["ExitCode"] == 0, "it ended by itself"
        docker("rm", name)
        del self.names[slot]

    def kill(self, slot: int) -> None:
        docker("kill", "--signal=KILL", self.names[slot])
        docker("rm", "-f", self.names.pop(slot))

    def free(self) -> int:
        return next(slot for slot in range(SLOTS) if slot not in self.names)

    def query(self, statement: str) -> list[str]:
        store = f"{self.network}-store"
        return docker("exec", store, "psql", "-U", "dialogs", "-At", "-c", statement, "dialogs").splitlines()


@contextmanager
def replicas(count: int) -> Iterator[Replicas]:
    """Start PostgreSQL and some containers of the service, which reach it by a network of its own."""
    network = f"turing-test-{free_port()}"
    store = f"{network}-store"
    running = Replicas(network)
    docker("network", "create", network)
    try:
        options = ["-e", "POSTGRES_USER=dialogs", "-e", f"POSTGRES_PASSWORD={PASSWORD}", "-e", "POSTGRES_DB=dialogs"]
        docker("run", "-d", "--name", store, "--network", network, *options, "postgres:17")
        wait_until(lambda: "accepting" in docker("exec", store, "pg_isready", "-h", "127.0.0.1", check=False))
        for slot in range(count):
            running.start(slot)
        yield running
    finally:
        docker("rm", "-f", "-v", store, *running.names.values(), check=False)
        docker("network", "rm", network, check=False)


@contextmanager
def proxy(replicas: Replicas, folder: Path) -> Iterator[str]:
    """Run HAProxy in front of the slots, with its files in a folder; yields its address."""
    port = free_port()
    servers = "\n".join(f"  server {slot} 127.0.0.1:{port}" for slot, port in enumerate(replicas.ports))
    configuration = folder / "haproxy.cfg"
    configuration.write_text(HAPROXY.format(port=port, servers=servers))
    command = [find("haproxy") or "haproxy", "-f", str(configuration)]
    log = folder / "haproxy.log"
    with answering(f"http://127.0.0.1:{port}", log, start(log, command)) as url:
        yield url
