"""Whether the service fits into the memory that a container is given: one that does not is killed without a word."""

import logging
from pathlib import Path

# MiB with the shipped model, measured with `docker run -m` (docs/operation.md): 224 for one worker, 352 for two.
OF_SERVICE = 96
OF_WORKER = 128
# of version 2 of Linux's control groups, and of version 1
LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")

logger = logging.getLogger("bentoml.memory")


def check_memory(workers: int, root: Path = Path("/")) -> None:
    """Log one line if the workers need more than the limit; it is no error, as another model may need less."""
    need = OF_SERVICE + workers * OF_WORKER
    limit = _limit(root)
    if limit is None or limit >= need:
        return
    fit = (limit - OF_SERVICE) // OF_WORKER
    remedy = f"set WORKERS={fit}, or raise the limit to {need} MiB" if fit > 0 else f"raise the limit to {need} MiB"
    noun = "worker needs" if workers == 1 else "workers need"
    logger.error(
        "WORKERS: %d %s %d MiB, the limit is %d: the system will kill them; %s", workers, noun, need, limit, remedy
    )


def _limit(root: Path) -> int | None:
    """Return the limit of the container, in MiB: its control group is the root of those that it sees."""
    for file in LIMITS:
        try:
            return int((root / file).read_text()) // 2**20
        except (OSError, ValueError):  # another version of cgroups, or "max"
            continue
    return None
