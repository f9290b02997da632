"""Whether the service fits into the memory that a container is given: one that does not is killed without a word."""

import logging
from collections.abc import Iterator
from pathlib import Path

# MiB with the shipped model, measured with `docker run -m` (docs/operation.md): 224 for one worker, 352 for two.
OF_SERVICE = 96
OF_WORKER = 128

logger = logging.getLogger("bentoml.memory")


def check_memory(workers: int, root: Path = Path("/")) -> None:
    """Log one line if the workers need more than the limit; it is no error, as another model may need less."""
    need = OF_SERVICE + workers * OF_WORKER
    limit = min(_limits(root), default=need * 2**20) // 2**20
    if limit >= need:
        return
    fit = (limit - OF_SERVICE) // OF_WORKER
    remedy = f"set WORKERS={fit}, or raise the limit to {need} MiB" if fit > 0 else f"raise the limit to {need} MiB"
    noun = "worker needs" if workers == 1 else "workers need"
    logger.error(
        "WORKERS: %d %s %d MiB, the limit is %d: the system will kill them; %s", workers, noun, need, limit, remedy
    )


def _limits(root: Path) -> Iterator[int]:
    """Yield the limits of the control groups that the process is in, in bytes (version 2 and 1 of Linux's cgroups).

    In a container, the groups of the host are not seen, and those at the root are the container's own.
    """
    try:
        entries = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:  # not Linux
        return
    for _, controllers, path in entries:
        if controllers == "":
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = Path(path.lstrip("/"))
        for part in (group, *group.parents):
            try:
                yield int((folder / part / name).read_text())
            except (OSError, ValueError):  # no such group here, or "max"
                continue
