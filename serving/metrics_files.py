"""The files in which workers keep their metrics, through prometheus_client; `/metrics` adds up those of all workers.

Nothing about them may fail a prediction. prometheus_client maps them into memory, and a process that writes to a mapped
page for which a full disk has no room is killed: each worker takes the room at its start. It checks once a second that
its files are there, and writes those that somebody has removed again, with all that they held.
"""

import atexit
import logging
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import BinaryIO

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
    """Open the files of this worker, before it makes a metric; returns None outside of workers.

    It does so, too, if they cannot be written; the metrics of this worker are then in no answer of `/metrics`.
    """
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return None
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    try:
        files = MetricsFiles(folder)
    except OSError as error:
        logger.error("This worker has no metrics: cannot write to %s: %s", folder, error.strerror)
        values.ValueClass = values.MutexValue  # in memory
        return None
    values.ValueClass = values.MultiProcessValue(lambda: files.owner)  # type: ignore[no-untyped-call]
    return files


class MetricsFiles:
    """The files of one worker; raises OSError if they cannot be written."""

    def __init__(self, folder: Path) -> None:
        self.owner = _Owner()
        _remove_gauges_of_dead_workers(folder)
        self._files = {
            folder / f"{kind}_{self.owner}.db": _write(folder / f"{kind}_{self.owner}.db", bytes(room))
            for kind, room in ROOM.items()
        }

    def restore(self) -> None:
        """Write files that were removed again; they are still mapped, and so hold all that was counted since."""
        missing = [path for path in self._files if not path.exists()]
        if not missing:
            return
        try:
            for path in missing:
                removed = self._files[path]
                removed.seek(0)
                self._files[path] = _write(path, removed.read())
                removed.close()
        except OSError as error:
            logger.error("This worker has no metrics any more: cannot write to %s: %s", path.parent, error.strerror)
            self._files = {}  # do not try again
        else:
            logger.warning("Metrics were removed from %s; this worker has written its own again", path.parent)
            self.owner = _Owner()


class _Owner:
    """The process, as prometheus_client names it in files; it opens its files anew for one that is not the same."""

    def __str__(self) -> str:
        return str(os.getpid())


def _write(path: Path, content: bytes) -> BinaryIO:
    """Write a file at once, so that nobody reads half of it; returns it, open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    written = new.open("w+b")
    try:
        written.write(content)
        written.flush()
        new.replace(path)
    except OSError:
        written.close()
        new.unlink(missing_ok=True)
        raise
    return written


def _remove_gauges_of_dead_workers(folder: Path) -> None:
    """Remove what a killed worker left in the gauges that are summed over the live ones; its successor calls this."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            with suppress(FileNotFoundError):  # another worker was faster
                mark_process_dead(pid)  # type: ignore[no-untyped-call]
