"""Write files so that nothing is lost: whatever stops a command, either all old files are there or all new ones.

New files are written to a folder of their own inside the target folder. When they are complete, that folder is renamed
to `COMMITTED`: this one step replaces the old files, because readers (`models.weights.current`) look there first. Then
the files are moved to their places, which takes no room on the disk. A command that is killed in between leaves the
rest to the next one that writes to the folder.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from models.weights import COMMITTED
from train.data import DataError

UNFINISHED = ".unfinished-"  # and something random: a folder of files that are being written
ABANDONED_SECONDS = 24 * 3600  # an unfinished folder of this age belongs to a command that was killed


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder; at the end the files in it replace those of the same names in `folder`, all or none.

    Everything else in `folder` stays. Raises `DataError` if a file cannot be written, at once if no file can be.
    """
    with _explained(folder):
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        _move(folder)
    try:
        with _unfinished(folder) as new:
            yield new
            with _explained(folder):
                _commit(new, folder)
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise
    with _explained(folder):
        _move(folder)


@contextmanager
def replacing_file(file: Path) -> Iterator[Path]:
    """Yield the name of a file to write, which replaces `file` at the end; a device or a pipe is written directly.

    Raises `DataError` if it cannot be written, at once if its folder cannot be written to.
    """
    if file.exists() and not file.is_file():
        with _explained(file):
            yield file
        return
    target = Path(os.path.realpath(file))
    with _unfinished(target.parent) as folder:
        new = folder / target.name
        yield new
        with _explained(file):
            _prepare(new, target)
            new.replace(target)


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Yield a new folder inside a folder; it is gone at the end, if only because it was renamed."""
    with _explained(folder):
        for old in folder.glob(f"{UNFINISHED}*"):
            if time.time() - old.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
        new = folder / f"{UNFINISHED}{uuid4().hex[:8]}"
        new.mkdir()
    try:
        with _explained(folder):
            yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _commit(new: Path, folder: Path) -> None:
    for file in new.iterdir():
        _prepare(file, folder / file.name)
    _sync(new)
    new.rename(folder / COMMITTED)  # an error if another command has just committed
    _sync(folder)


def _prepare(new: Path, target: Path) -> None:
    """Make a file ready to replace another one, or raise OSError while the other one is still there."""
    if target.is_dir():
        raise IsADirectoryError(None, "is a folder", str(target))
    if target.exists():
        shutil.copymode(target, new)
    _sync(new)


def _move(folder: Path) -> None:
    """Move what was committed to its place."""
    committed = folder / COMMITTED
    if committed.is_dir():
        for file in committed.iterdir():
            with suppress(FileNotFoundError):  # another command has moved it
                file.replace(folder / file.name)  # an error leaves the new file to readers, where it is
        with suppress(OSError):
            committed.rmdir()


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk; for a folder, not every file system can say."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
