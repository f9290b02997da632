"""Scores a file of lines on a local cluster of two nodes; run by `test_bulk.py` with the Python of `.venv-ray`.

One worker kills itself in its third batch. Arguments: the file of chats, and a folder for what comes out.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from models.cluster import ScoreLines

FILE, FOLDER = sys.argv[1], Path(sys.argv[2])


class ScoreUntilKilled(ScoreLines):
    """Scores lines; the first actor to get to its third batch dies while it has it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._batches = 0
        (FOLDER / f"node-{ray.get_runtime_context().get_node_id()}").touch()

    def __call__(self, batch: Any) -> Any:
        self._batches += 1
        if self._batches == 3:
            with suppress(FileExistsError):
                (FOLDER / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(batch)


def main() -> None:
    node = {"num_cpus": 2, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    ray.init(address=cluster.address)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    lines = ray.data.read_text(FILE).repartition(8)
    with (FOLDER / "scores").open("wb") as scores, (FOLDER / "errors").open("w") as errors:
        options = {"expected_bot_share": 0.1, "finished": True}
        scored = lines.map_batches(ScoreUntilKilled, fn_constructor_kwargs=options, batch_size=16, concurrency=3)
        for row in scored.iter_rows():
            if row["score"]:
                scores.write(row["score"].encode() + b"\n")
            else:
                print(json.dumps(row["error"]), file=errors)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
