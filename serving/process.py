"""The process of the service: what BentoML reads before it starts workers."""

import atexit
import logging
import os
import shutil
from pathlib import Path
from tempfile import gettempdir

import psutil
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.utils.analytics.usage_stats import do_not_track

METRICS = "turing_test_service-metrics-"  # and the process that was started

logger = logging.getLogger("bentoml.process")


def configure_process() -> None:
    """Set what BentoML reads before it starts workers: telemetry, metrics, dead workers, threads.

    The numbers of threads and of heaps take effect in the workers alone, as NumPy is already loaded here.
    """
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    do_not_track.cache_clear()  # the bentoml command reads the variable before it loads the service
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:  # workers inherit it
        folder = str(_folder_of_metrics())
        BentoMLContainer.prometheus_multiproc_dir.set(folder)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    restore_folder_of_metrics()
    os.environ.pop("BENTOML_CONTAINERIZED", None)  # set in images, where BentoML then does not replace dead workers
    # The model's matrices are small: threads for them only take cores away from other workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # a heap for each thread takes 10 MB more and is no faster here


def restore_folder_of_metrics() -> None:
    """Make the folder of this worker's metrics again if somebody has removed it."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and not Path(folder).exists():
        logger.error("%s was removed: running workers have no metrics until they are started again", folder)
        Path(folder).mkdir(parents=True, exist_ok=True)


def _folder_of_metrics() -> Path:
    """Return a folder for the metrics of this service alone, as BentoML empties it at the start.

    It is in `BENTOML_HOME`, because systems delete old files in `/tmp`; there only if nothing else can be written, as
    in a container. Folders of services that were killed are removed.
    """
    home = Path(BentoMLContainer.bentoml_home.get())
    parent = home if os.access(home, os.W_OK) else Path(gettempdir())
    for left in parent.glob(f"{METRICS}*"):
        if not psutil.pid_exists(int(left.name.removeprefix(METRICS))):
            shutil.rmtree(left, ignore_errors=True)
    return parent / f"{METRICS}{os.getpid()}"
