"""Files that a command writes: whatever stops it, the old files or the new ones are there, all of them."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from models.weights import COMMITTED, current
from train.data import DataError
from train.files import ABANDONED_SECONDS, UNFINISHED, replacing, replacing_file

NAMES = ("arrays", "card", "metrics")
STEPS = {"open", "os.chmod", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir"}
ENDED, KILLED, FAILED = 0, -signal.SIGKILL, 1


def write(folder: Path, content: str) -> None:
    with replacing(folder) as new:
        for name in NAMES:
            (new / name).write_text(content)


def write_one(folder: Path, content: str) -> None:
    with replacing_file(folder / NAMES[0]) as new:
        new.write_text(content)


def read(folder: Path, names: Sequence[str] = NAMES) -> set[str]:
    """Return what readers find in the files; one value unless old and new files are mixed."""
    return {current(folder, name).read_text() for name in names}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that holds old files, and code beside them."""
    write(tmp_path / "model", "old")
    (tmp_path / "model" / "__init__.py").write_text("code")
    return tmp_path / "model"


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def stop_at(step: int, stop: Callable[[], None], command: Callable[[], None]) -> int:
    """Run a command in a process of its own that stops before the operation on files of this number; return its end."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done = 0

    def count(event: str, _: tuple[object, ...]) -> None:
        nonlocal done
        if event in STEPS:
            done += 1
            if done == step + 1:
                stop()

    sys.addaudithook(count)
    try:
        command()
    except DataError:
        os._exit(FAILED)
    os._exit(ENDED)


@pytest.mark.parametrize(("replace", "names", "steps"), [(write, NAMES, 10), (write_one, NAMES[:1], 2)])
@pytest.mark.parametrize(("stop", "end"), [(kill, KILLED), (fail, FAILED)])
def test_whatever_stops_the_writing_the_files_belong_together(
    folder: Path,
    replace: Callable[[Path, str], None],
    names: Sequence[str],
    steps: int,
    stop: Callable[[], None],
    end: int,
) -> None:
    """The old ones stay for at least so many steps, until everything is written."""
    seen = []
    for step in range(100):
        replace(folder, "old")
        stopped = stop_at(step, stop, lambda: replace(folder, "new"))
        seen.append((read(folder, names), stopped))
        assert (folder / "__init__.py").read_text() == "code"
        if stopped == ENDED and read(folder, names) == {"new"} and not (folder / COMMITTED).exists() and step > 20:
            break
    assert all(found in ({"old"}, {"new"}) for found, _ in seen), seen
    assert all(found == {"new"} for found, stopped in seen if stopped == ENDED)
    of_stopped = [found for found, stopped in seen if stopped == end]
    assert of_stopped[:steps] == [{"old"}] * steps
    replace(folder, "next")
    assert read(folder, names) == {"next"} == {(folder / name).read_text() for name in names}
    assert not (folder / COMMITTED).exists()


def test_nothing_else_is_left_after_an_error(folder: Path) -> None:
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(DataError, match="cannot be written: No such file"), replacing(folder) as new:
        [(new / name).write_text("new") for name in (NAMES[0], "no/such/folder")]
    with pytest.raises(ValueError, match="failed"), replacing(folder.with_name("did-not-exist")):
        raise ValueError("failed")
    assert sorted(folder.parent.rglob("*")) == before
    assert read(folder) == {"old"}


def test_what_killed_commands_left_is_removed_a_day_later(folder: Path) -> None:
    for name, age in (("old", ABANDONED_SECONDS + 1), ("young", 60)):
        left = folder / f"{UNFINISHED}{name}"
        left.mkdir()
        os.utime(left, (time.time() - age,) * 2)
    write(folder, "new")
    assert [path.name for path in folder.glob(f"{UNFINISHED}*")] == [f"{UNFINISHED}young"]


def test_permissions_stay_and_new_files_have_the_usual_ones(folder: Path) -> None:
    (folder / NAMES[0]).chmod(0o640)
    (folder / NAMES[1]).unlink()
    write(folder, "new")
    usual = folder / "usual"
    usual.touch()
    assert stat.S_IMODE((folder / NAMES[0]).stat().st_mode) == 0o640
    assert (folder / NAMES[1]).stat().st_mode == usual.stat().st_mode


def test_a_folder_in_the_place_of_a_file_is_named_and_nothing_is_replaced(folder: Path) -> None:
    (folder / NAMES[1]).unlink()
    (folder / NAMES[1]).mkdir()
    with pytest.raises(DataError, match="cannot be written: is a folder"):
        write(folder, "new")
    assert (folder / NAMES[0]).read_text() == "old"
    assert not (folder / COMMITTED).exists()


def test_links_are_followed_and_devices_and_pipes_written_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    with replacing_file(tmp_path / "link") as file:
        file.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        with replacing_file(tmp_path / "pipe") as file:
            file.write_text("new")
        assert reader.communicate()[0] == "new"
    with replacing_file(Path("/dev/null")) as file:
        file.write_text("new")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["file", "file/inside"])
def test_a_file_in_the_place_of_the_folder_is_named_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=f"{name}: cannot be written"), replacing(tmp_path / name):
        pytest.fail("nothing is computed for a folder that cannot be written to")
    with pytest.raises(DataError, match="cannot be written"), replacing_file(tmp_path / "file" / "report"):
        pytest.fail("nothing is computed for a file that cannot be written")
