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
    if limit is not None and limit < need:
        text = "WORKERS=%d needs %d MiB, the limit is %d: raise it or lower WORKERS, or the system will kill workers"
        logger.error(text, workers, need, limit)


def _limit(root: Path) -> int | None:
    """Return the limit of the container, in MiB: its control group is the root of those that it sees."""
    for file in LIMITS:
        try:
            return int((root / file).read_text()) // 2**20
        except (OSError, ValueError):  # another version of cgroups, or "max"
            continue
    return None
