"""The monitoring log: what the classifier saw and answered, as numbers, for `python -m train drift`.

`records/monitoring_log.py` says what a line holds. Scoring hands over arrays that were computed anyway. A thread turns
them into lines and writes them in groups; files are rotated by the standard library. Lines that the thread cannot keep
up with or cannot write are dropped and counted.

`bentoml.monitor` is not used: it writes while the request waits for its answer (0.3 ms for a chat), adds the
identifiers of the request and its trace to every line, never deletes a file, and does not notice lost lines.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from logging.handlers import RotatingFileHandler
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import Self

from bentoml.exceptions import BentoMLConfigException
from filelock import FileLock, Timeout
from prometheus_client import Counter
from pydantic_core import to_json

from models.chat import Chat
from models.classifier import Assessment, Classifier
from records.monitoring_log import Scored, minute
from serving.settings import say_who_cannot_write

WRITE_EVERY = 0.5  # seconds
MAX_WAITING = 20_000  # participants who wait for their lines to be written, 5 MB; as many may be being written
FILES = 5  # of each worker, the one that is written to included
REPORT_EVERY = 60  # seconds between two reports of lost lines, at least
CLOSE_SECONDS = 2  # for the last lines when the worker stops

logger = logging.getLogger("bentoml.monitoring")


class Monitoring:
    """Writes the log of one worker to a folder that the workers of one or more services may share.

    All files of the service's `workers` take `max_bytes` at most.
    """

    def __init__(self, folder: Path, max_bytes: int, workers: int) -> None:
        self._file = _RotatedFile(folder, max_bytes // workers // FILES)
        self._waiting: list[Scored] = []
        self._waiting_rows = 0
        self._lost = 0  # lines that are not counted yet
        self._unreported = 0  # lost lines that the file does not tell of
        self._next_report = 0.0
        self._lock = Lock()
        self._closing = Event()
        self._thread = Thread(target=self._run, name="monitoring", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, folder: Path | None, max_mb: int, workers: int) -> Self | None:
        """Open the log of one worker; returns None without a folder, or if it cannot be written any more."""
        try:
            return cls(folder, max_mb * 1_000_000, workers) if folder else None
        except OSError as error:
            logger.error("MONITORING: this worker writes no log: %s", error)
            return None

    @staticmethod
    def check(folder: Path | None) -> None:
        """Raise BentoMLConfigException with one line if files cannot be written to a folder, which is made."""
        if folder is None:
            return
        try:
            _RotatedFile(folder, max_bytes=0).close()
        except OSError as error:
            raise BentoMLConfigException(f"MONITORING: cannot write to {say_who_cannot_write(folder, error)}") from None

    def record(
        self, classifier: Classifier, chats: Sequence[Chat], are_dialogs: Sequence[bool], assessment: Assessment
    ) -> None:
        """Hand over a classifier's assessment of some chats; returns at once.

        `are_dialogs` says of each chat whether it is the dialog so far of a message.
        """
        rows = len(assessment.probabilities)
        with self._lock:
            if self._waiting_rows + rows > MAX_WAITING:
                self._lost += len(chats)
                return
            self._waiting_rows += rows
            self._waiting.append(Scored.of(classifier, chats, are_dialogs, assessment))

    def close(self) -> None:
        """Write what is left, and stop; further records are not written."""
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._closing.wait(WRITE_EVERY):
            self._write()
            if monotonic() > self._next_report:
                self._report()
        self._write()
        self._report()
        self._file.close()

    def _write(self) -> None:
        with self._lock:
            waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
            lost, self._lost = self._lost, 0
        for scored in waiting:
            lines = scored.lines()
            if len(lines) + 1 >= self._file.maxBytes or not self._file.write(lines):
                lost += len(scored.chats)
        if lost:
            _lost_lines().inc(lost)
            self._unreported += lost

    def _report(self) -> None:
        """Say how many lines are lost, in the service's log and in the file, if it can be written."""
        if self._unreported:
            self._next_report = monotonic() + REPORT_EVERY
            logger.warning("MONITORING: %d lines could not be written", self._unreported)
            if self._file.write(to_json({"time": minute(), "lost": self._unreported})):
                self._unreported = 0


class _RotatedFile(RotatingFileHandler):
    """The first `predictions.N.jsonl` of a folder that no other process writes to.

    The numbers stay below the number of workers that run at a time, so a worker that starts again adds no files.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in count():
            self._claim = FileLock(folder / f"predictions.{number}.lock", thread_local=False)  # a thread releases it
            with suppress(Timeout):
                self._claim.acquire(blocking=False)
                break
        file = folder / f"predictions.{number}.jsonl"
        super().__init__(file, maxBytes=max_bytes, backupCount=FILES - 1, encoding="utf-8", delay=True)

    def write(self, lines: bytes) -> bool:
        """Append lines; returns whether they were written."""
        self.failed = False
        self.emit(logging.makeLogRecord({"msg": lines.decode()}))
        return not self.failed

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Take note of an error, and drop the stream with what is left in its buffer; the next write opens it again."""
        self.failed = True
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()

    def close(self) -> None:
        """Close the file, and let another process have it."""
        super().close()
        self._claim.release()


@cache  # the registry takes a metric once
def _lost_lines() -> Counter:
    return Counter("turing_test_monitoring_lost_lines", "Lines of the monitoring log that could not be written")
