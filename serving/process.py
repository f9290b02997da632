"""The process of the service: what BentoML reads before it starts workers."""

import os

from bentoml._internal.utils.analytics.usage_stats import do_not_track

from serving import metrics_files


def configure_process() -> None:
    """Set what BentoML reads before it starts workers: telemetry, metrics, dead workers, threads.

    The numbers of threads and of heaps take effect in the workers alone, as NumPy is already loaded here.
    """
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    do_not_track.cache_clear()  # the bentoml command reads the variable before it loads the service
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # in a worker
        metrics_files.open_files()
    else:
        metrics_files.choose_folder()
    os.environ.pop("BENTOML_CONTAINERIZED", None)  # set in images, where BentoML then does not replace dead workers
    # The model's matrices are small: threads for them only take cores away from other workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # a heap for each thread takes 10 MB more and is no faster here
