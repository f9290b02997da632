"""`make bench`: the service compared with other servers, on one machine and in one run.

The servers are started one after the other, and wrk sends all of them the same random chats. The table, a chart and the
raw figures are written to `benchmarks/results/`.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from matplotlib.figure import Figure

from benchmarks.chats import draw_chats

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
CLIENTS = (1, 8, 32, 128, 256)
RUNS = 3
PORT = 8890
START_LIMIT = 60  # seconds
WARM_UP = 1  # seconds that hey takes to open its connections, all at once; what is sent meanwhile is not counted
PEERS = ("bentoml", "fastapi", "uvicorn", "mosec", "litserve", "scikit-learn", "numpy")


@dataclass(frozen=True)
class Contestant:
    """A server: its name in the table, the command that starts it, its environment variables, and its folder."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path = ROOT


def contestants(before: Path | None = None) -> list[Contestant]:
    """Return the service and everything it is measured beside, a checkout of an earlier commit included."""
    bento = (sys.executable, "-m", "bentoml", "serve", "--port", str(PORT))
    uvicorn = (sys.executable, "-m", "uvicorn", "benchmarks.peers.fastapi_app:app", "--port", str(PORT))
    uvicorn_1, uvicorn_2 = (*uvicorn, "--log-level", "warning"), (*uvicorn, "--log-level", "warning", "--workers", "2")
    return [
        Contestant("this service", bento),
        *([Contestant("before", bento, folder=before)] if before else []),
        Contestant("empty BentoML service", (*bento[:4], "benchmarks.peers.empty_service:EmptyService", *bento[4:])),
        Contestant("bare ASGI app, 2 workers", (*uvicorn_2[:3], "benchmarks.peers.bare_app:app", *uvicorn_2[4:])),
        Contestant("FastAPI, 2 workers, this classifier", uvicorn_2, {"SCORER": "classifier"}),
        Contestant("FastAPI, 2 workers, plain scorer", uvicorn_2, {"SCORER": "plain"}),
        Contestant("FastAPI, 1 worker, plain scorer", uvicorn_1, {"SCORER": "plain"}),
        Contestant(
            "mosec, batches, plain scorer",
            (sys.executable, "-m", "benchmarks.peers.mosec_app", "--port", str(PORT)),
        ),
        Contestant(
            "LitServe, batches, plain scorer", (sys.executable, "-m", "benchmarks.peers.litserve_app", str(PORT))
        ),
    ]


@contextmanager
def running(contestant: Contestant, body: bytes) -> Iterator[tuple[psutil.Process, float]]:
    """Start a server; yields its process and the seconds until its first answer, and stops all its processes."""
    environment = {
        **os.environ,
        "BENTOML_DO_NOT_TRACK": "True",
        "OMP_NUM_THREADS": "1",
        "WORKERS": "2",
        **contestant.environment,
    }
    start = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603  # the commands above
            contestant.command, cwd=contestant.folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while not _answers(body):
                if process.poll() is not None or time.monotonic() - start > START_LIMIT:
                    log.seek(0)
                    raise RuntimeError(f"{contestant.name} does not start:\n{log.read().decode()[-2000:]}")
                time.sleep(0.05)
            yield psutil.Process(process.pid), time.monotonic() - start
        finally:
            family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.send_signal(signal.SIGTERM)
            _, left = psutil.wait_procs([*family, psutil.Process(process.pid)] if family else [], timeout=15)
            for straggler in left:
                straggler.kill()
            process.wait()


def _answers(body: bytes) -> bool:
    request = urllib.request.Request(f"http://localhost:{PORT}/predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def drive(clients: int, seconds: float, *arguments: object, script: str = "chats.lua") -> dict[str, Any]:
    """Run wrk with a number of clients; returns requests per second, p50 and p99 in ms, and the number of failures."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", f"benchmarks/{script}"]
    done = subprocess.run(  # noqa: S603
        [*command, f"http://localhost:{PORT}/predict", "--", *map(str, arguments)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    counted = json.loads(done.stdout.strip().splitlines()[-1])
    return {"clients": clients, "per_second": counted["requests"] / counted["seconds"], **counted}


def middle(clients: int, seconds: float, chats: Path) -> dict[str, Any]:
    """Return the run with the median throughput out of `RUNS`, as connections spread over workers by chance."""
    return sorted((drive(clients, seconds, chats) for _ in range(RUNS)), key=lambda run: float(run["per_second"]))[
        RUNS // 2
    ]


def memory(process: psutil.Process) -> float:
    """Return the total memory of a server's processes in MB; shared pages are counted once (PSS)."""
    family = [process, *process.children(recursive=True)]
    return float(sum(member.memory_full_info().pss for member in family if member.is_running()) / 1e6)


def measure(contestant: Contestant, seconds: float, burst: float, chats: Path) -> dict[str, Any]:
    """Measure one server: by number of clients, with one client before and after a burst, at half load; its memory."""
    body = chats.read_bytes().splitlines()[0]
    with running(contestant, body) as (process, start):
        drive(8, 3, chats)  # warm up
        by_clients = [middle(clients, seconds, chats) for clients in CLIENTS]
        before = drive(1, seconds, chats)
        loaded = drive(32, burst, chats)
        after = drive(1, seconds, chats)
        result = {
            "name": contestant.name,
            "start_seconds": start,
            "by_clients": by_clients,
            "alone_before": before,
            "burst": loaded,
            "alone_after": after,
            "memory_mb": memory(process),
        }
        half = _at_half(max(run["per_second"] for run in by_clients), chats, seconds)
        return {**result, "half_load": half}


def _at_half(limit: float, chats: Path, seconds: float) -> dict[str, float]:
    """Send half of the requests that the server can answer, at a fixed rate from 64 senders at once."""
    senders = 64
    load = ("hey", "-z", f"{WARM_UP + seconds}s", "-c", str(senders), "-q", str(limit / 2 / senders))
    with tempfile.NamedTemporaryFile("wb") as body:
        body.write(chats.read_bytes().splitlines()[1])
        body.flush()
        done = subprocess.run(  # noqa: S603
            [
                *load,
                "-m",
                "POST",
                "-T",
                "application/json",
                "-D",
                body.name,
                "-o",
                "csv",
                f"http://localhost:{PORT}/predict",
            ],
            check=True,
            capture_output=True,
            text=True,
        )
    lines = [line.split(",") for line in done.stdout.splitlines()[1:]]
    rows = [row for row in lines if float(row[7]) >= WARM_UP]
    times = sorted(float(row[0]) * 1000 for row in rows)
    return {
        "per_second": len(times) / seconds,
        "p50_ms": times[len(times) // 2],
        "p99_ms": times[int(len(times) * 0.99)],
        "failed": float(sum(row[6] != "200" for row in lines)),
    }


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    head = ["server", *(f"{clients} clients" for clients in CLIENTS)]
    head += [
        "p50 alone, ms",
        "p50 alone after 32 clients, ms",
        "p99 at half load, ms",
        "memory, MB",
        "start, s",
        "failed",
    ]
    lines = [head, ["---"] * len(head)]
    for result in results:
        runs = [*result["by_clients"], result["alone_before"], result["burst"], result["alone_after"]]
        lines.append(
            [
                result["name"],
                *(f"{run['per_second']:.0f}" for run in result["by_clients"]),
                f"{result['alone_before']['p50_ms']:.2f}",
                f"{result['alone_after']['p50_ms']:.2f}",
                f"{result['half_load']['p99_ms']:.1f}",
                f"{result['memory_mb']:.0f}",
                f"{result['start_seconds']:.1f}",
                str(sum(run["failed"] for run in runs)),
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def points(results: Sequence[dict[str, Any]]) -> str:
    """Return the ratios with targets as a Markdown table."""
    by_name = {result["name"]: result for result in results}
    ours = by_name["this service"]

    def at(result: dict[str, Any], clients: int) -> float:
        return float(next(run["per_second"] for run in result["by_clients"] if run["clients"] == clients))

    plain = [result for result in results if "plain" in result["name"]]
    empty = by_name["empty BentoML service"]
    best = max(plain, key=lambda result: at(result, 32))
    alone = min((r for r in plain if "FastAPI" in r["name"]), key=lambda r: r["alone_before"]["p50_ms"])
    rows = [
        ("32 clients, beside an empty BentoML service", at(ours, 32) / at(empty, 32), "at least 0.85"),
        (
            "p50 alone, beside an empty BentoML service",
            ours["alone_before"]["p50_ms"] / empty["alone_before"]["p50_ms"],
            "at most 2.2",
        ),
        (
            "p99 at half of the limit, beside an empty BentoML service",
            ours["half_load"]["p99_ms"] / empty["half_load"]["p99_ms"],
            "at most 1.2",
        ),
        (f"32 clients, beside the best peer ({best['name']})", at(ours, 32) / at(best, 32), "at least 4.5"),
        (
            "32 clients, beside FastAPI with this classifier",
            at(ours, 32) / at(by_name["FastAPI, 2 workers, this classifier"], 32),
            "at least 1.5",
        ),
        ("256 clients beside 32", at(ours, 256) / at(ours, 32), "at least 0.9"),
        (
            "p50 alone, beside FastAPI with the plain scorer",
            ours["alone_before"]["p50_ms"] / alone["alone_before"]["p50_ms"],
            "at most 1",
        ),
        (
            "p50 alone right after the burst, beside before",
            ours["alone_after"]["p50_ms"] / ours["alone_before"]["p50_ms"],
            "at most 1.2",
        ),
        ("memory after the load, MB", ours["memory_mb"], "at most 383"),
    ]
    if "before" in by_name:
        rows.insert(
            0, ("32 clients, beside the commit before", at(ours, 32) / at(by_name["before"], 32), "more than 1")
        )
    lines = [f"| {what} | {ratio:.2f} | {bar} |" for what, ratio, bar in rows]
    return "\n".join(["| ratio | measured | wanted |", "| --- | --- | --- |", *lines])


def chart(results: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw throughput and p50 by number of clients."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for result in results:
        clients = [run["clients"] for run in result["by_clients"]]
        left.plot(clients, [run["per_second"] for run in result["by_clients"]], marker="o", label=result["name"])
        right.plot(clients, [run["p50_ms"] for run in result["by_clients"]], marker="o")
    for axes, title in ((left, "requests per second"), (right, "p50, ms")):
        axes.set(xscale="log", yscale="log", xlabel="clients", title=title)
        axes.set_xticks(CLIENTS, [str(clients) for clients in CLIENTS])
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(file, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all servers, print the table, and write the results."""
    parser = argparse.ArgumentParser(prog="make bench", description="Compare the service with other servers.")
    parser.add_argument("--seconds", type=int, default=3, help=f"duration of one of {RUNS} runs of wrk")
    parser.add_argument("--burst", type=int, default=30, help="duration of the burst of 32 clients")
    parser.add_argument("--before", type=Path, help="checkout of an earlier commit, measured in the same run")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps(body, ensure_ascii=False) + "\n" for body in draw_chats(2000))
        file.flush()
        for contestant in contestants(options.before):
            results.append(measure(contestant, options.seconds, options.burst, Path(file.name)))
            print(table(results[-1:]).splitlines()[-1], flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    text = "\n\n".join([table(results), points(results), f"Measured on {machine}; {versions}."])
    print(f"\n{text}")
    (options.out / "serving.md").write_text(f"{text}\n", encoding="utf-8")
    (options.out / "serving.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    chart(results, options.out / "serving.svg")


if __name__ == "__main__":
    main()
