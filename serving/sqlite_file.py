"""The SQLite file of the dialogs: created, and known to be writable, before any worker starts."""

import os
import stat
from pathlib import Path

from bentoml.exceptions import BentoMLConfigException


def prepare_file(database: Path) -> None:
    """Create the file, and one for its lock, if they are not there.

    In a folder that its group can write, the group can write the file, too: a container that runs as any user of group
    0 goes on where another has stopped. Raises BentoMLConfigException in one line if the file cannot be written.
    """
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        is_shared = bool(database.parent.stat().st_mode & stat.S_IWGRP)
        for file in (database, Path(f"{database}.lock")):  # SQLite gives its other files the mode of the database
            is_new = not file.exists()
            with file.open("ab"):
                if is_new and is_shared:
                    file.chmod(0o664)
        if not os.access(database.parent, os.W_OK):  # SQLite creates files beside it
            raise PermissionError(None, "Permission denied", str(database.parent))
    except OSError as error:
        who = f"user {os.geteuid()} of group {os.getegid()}"
        raise BentoMLConfigException(f"{who} cannot store dialogs in {error.filename}: {error.strerror}") from None
