"""Who can write the SQLite file of the dialogs."""

import os
import re
import stat
from pathlib import Path

import pytest
from bentoml.exceptions import BentoMLConfigException

from serving.dialogs.sqlite_store import prepare_file


@pytest.mark.parametrize(("folder", "file"), [(0o755, 0o644), (0o2775, 0o664)])
def test_the_group_of_a_shared_folder_can_write_the_file(tmp_path: Path, folder: int, file: int) -> None:
    parent = tmp_path / "history"
    parent.mkdir()
    parent.chmod(folder)
    before = os.umask(0o022)
    try:
        prepare_file(parent / "dialogs.sqlite")
    finally:
        os.umask(before)
    assert stat.S_IMODE((parent / "dialogs.sqlite").stat().st_mode) == file


def test_what_is_stored_stays(tmp_path: Path) -> None:
    database = tmp_path / "dialogs.sqlite"
    database.write_bytes(b"kept")
    prepare_file(database)
    assert database.read_bytes() == b"kept"


def test_a_folder_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "history").touch()
    with pytest.raises(BentoMLConfigException) as raised:
        prepare_file(tmp_path / "history" / "dialogs.sqlite")
    assert re.fullmatch(rf"cannot store dialogs in {tmp_path}/history: .+", str(raised.value))
