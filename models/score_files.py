"""The files that a bulk run writes. A run that was killed leaves a state, from which it is resumed."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from .bulk import BulkError, Scored, State

try:
    import fcntl
except ImportError:  # on Windows, where nothing keeps two runs from writing one file
    fcntl = None  # type: ignore[assignment]

SAVED = 1.0  # seconds between two states


class NothingToResumeError(Exception):
    """The scores are there, and no run was interrupted."""


class Streams:
    """Standard output, or another pipe: such a run cannot be resumed."""

    def __init__(self, scores: BinaryIO, rejected: BinaryIO) -> None:
        self.state = State()
        self._scores, self._rejected = scores, rejected

    def write(self, state: State, scored: Scored) -> None:  # noqa: ARG002  # as `ScoreFiles`
        """Write at once, so that whoever reads the pipe sees the scores."""
        self._scores.write(scored.scores)
        self._scores.flush()
        self._rejected.write(scored.rejected)
        self._rejected.flush()

    def finish(self) -> None:
        """Do nothing more."""


class ScoreFiles:
    """Two files, and the state of the run beside them while it is not complete.

    Once a second everything is brought to the disk, then the state. A run that is resumed cuts off what was written
    after the last state, so that no line is lost or there twice. The file of scores is locked while a run goes on.
    """

    def __init__(self, scores: Path, rejected: Path, settings: Mapping[str, object], *, resume: bool) -> None:
        """Open the files. A run is only continued with the same `settings`, which are stored as JSON.

        Raises `BulkError` if they don't fit the state, `NothingToResumeError`, and OSError.
        """
        self._file = scores.with_name(scores.name + ".state")
        self._rejected_file = rejected
        self._settings = dict(settings)
        there = _open(scores) if scores.exists() else None
        interrupted = self._read()
        if interrupted and not resume:
            raise BulkError(f"{self._file}: an earlier run did not end; continue it with --resume, or delete this file")
        if resume and there and not interrupted:
            raise NothingToResumeError
        self.state = interrupted or State()
        if not interrupted:
            self._save(self.state)  # before any scores, so that there is always a state while a run is not complete
        self._scores = _cut(there or _open(scores), self.state.scores)
        self._rejected = _cut(_open(rejected), self.state.rejected)
        self._saved = monotonic()

    def write(self, state: State, scored: Scored) -> None:
        """Write what became of a chunk; `state` is the one after it."""
        self._scores.write(scored.scores)
        self._rejected.write(scored.rejected)
        self.state = state
        if monotonic() - self._saved >= SAVED:
            self._sync()
            self._save(state)
            self._saved = monotonic()

    def finish(self) -> None:
        """End a run that is complete: no state is left, nor an empty file of rejected lines."""
        self._sync()
        self._rejected.close()
        if not self.state.rejected:
            self._rejected_file.unlink()
        self._file.unlink()
        self._scores.close()  # last, with its lock

    def _sync(self) -> None:
        for file in (self._scores, self._rejected):
            file.flush()
            os.fsync(file.fileno())

    def _save(self, state: State) -> None:
        new = self._file.with_name(self._file.name + ".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump({"settings": self._settings, **asdict(state)}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)

    def _read(self) -> State | None:
        """Return the state of a run that was interrupted, None without one; raises `BulkError`."""
        try:
            stored = json.loads(self._file.read_bytes())
            settings = stored.pop("settings")
            state = State(**stored)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise BulkError(f"{self._file}: is not the state of a run; delete it to start anew") from None
        if settings != self._settings:
            was, now = (
                ", ".join(f"{name} {value}" for name, value in each.items()) for each in (settings, self._settings)
            )
            raise BulkError(f"{self._file}: that run was made with {was}; this is {now}")
        return state


Sink = Streams | ScoreFiles  # where scores go; `state` is that of the run to continue


def _open(file: Path) -> BinaryIO:
    """Open a file to write on at its end, and lock it; raises `BulkError` if another run writes it."""
    opened = file.open("ab")
    if fcntl:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BulkError(f"{file}: another run is writing this file") from None
    return opened


def _cut(file: BinaryIO, size: int) -> BinaryIO:
    """Cut a file off at a size, in bytes; raises `BulkError` if it is shorter."""
    if file.seek(0, os.SEEK_END) < size:
        raise BulkError(f"{file.name}: is shorter than it was when the run was interrupted")
    file.truncate(size)
    return file
