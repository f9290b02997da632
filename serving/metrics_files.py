"""The files in which workers keep their metrics, through prometheus_client; `/metrics` adds up those of all workers.

Nothing about them may fail a prediction. prometheus_client maps them into memory, and a process that writes to a mapped
page for which a full disk has no room is killed: each worker takes the room at its start. It checks once a second that
its files are there.
"""

import atexit
import logging
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import gettempdir

import psutil
from bentoml._internal.configuration.containers import BentoMLContainer
from prometheus_client import values
from prometheus_client.multiprocess import mark_process_dead

FOLDER = "turing_test_service-metrics-"  # and the process that was started
# Bytes for each kind of prometheus_client's files. A path and a status take 7 KB of histograms; `KnownPaths` keeps the
# number of paths finite.
ROOM = {
    "counter": 2**17,
    "histogram": 2**20,
    "gauge_all": 2**16,
    "gauge_livesum": 2**16,
    "gauge_mostrecent": 2**16,
}

logger = logging.getLogger("bentoml.metrics")


def choose_folder() -> None:
    """Let BentoML, which empties it at the start, use a folder for this service alone; it is removed at the end.

    It is in `BENTOML_HOME`, because systems delete old files in `/tmp`; there only if nothing else can be written, as
    in a container. Folders of services that were killed are removed.
    """
    home = Path(BentoMLContainer.bentoml_home.get())
    parent = home if os.access(home, os.W_OK) else Path(gettempdir())
    for left in parent.glob(f"{FOLDER}*"):
        if not psutil.pid_exists(int(left.name.removeprefix(FOLDER))):
            shutil.rmtree(left, ignore_errors=True)
    folder = parent / f"{FOLDER}{os.getpid()}"
    BentoMLContainer.prometheus_multiproc_dir.set(str(folder))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


@cache
def open_files() -> "MetricsFiles | None":
    """Make the files of this worker, before it makes a metric; returns None outside of workers."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return None
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    _remove_gauges_of_dead_workers(folder)
    files = MetricsFiles(folder)
    files.write_missing()
    return files


class MetricsFiles:
    """The files of one worker. If they cannot be written, its metrics stay in memory, and no `/metrics` has them."""

    def __init__(self, folder: Path) -> None:
        self._owner = _Owner()
        self._room = {folder / f"{kind}_{self._owner}.db": room for kind, room in ROOM.items()}
        values.ValueClass = values.MultiProcessValue(lambda: self._owner)  # type: ignore[no-untyped-call]

    def write_missing(self) -> None:
        """Write files that are missing. If somebody has removed them, this worker counts from zero again."""
        missing = {path: room for path, room in self._room.items() if not path.exists()}
        if not missing:
            return
        try:
            for path, room in missing.items():
                _write(path, bytes(room))
        except OSError as error:
            logger.error("This worker has no metrics: cannot write to %s: %s", path.parent, error.strerror)
            self._room = {}  # do not try again
            values.ValueClass = values.MutexValue  # in memory
        else:
            self._owner = _Owner()


class _Owner:
    """The process, as prometheus_client names it in files; it opens its files anew for one that is not the same."""

    def __str__(self) -> str:
        return str(os.getpid())


def _write(path: Path, content: bytes) -> None:
    """Write a file at once, so that nobody reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    try:
        new.write_bytes(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _remove_gauges_of_dead_workers(folder: Path) -> None:
    """Remove what a killed worker left in the gauges that are summed over the live ones; its successor calls this."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            with suppress(FileNotFoundError):  # another worker was faster
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
