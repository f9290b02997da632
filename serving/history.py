"""Where the SQLite file of the dialogs is, and that it can be written: decided once, before any worker starts."""

import os
import stat
from pathlib import Path

from bentoml.exceptions import BentoMLConfigException
from sqlalchemy import make_url


def resolve_history_folder(name: str) -> Path:
    """Return the absolute path of a folder, which is never inside of a Bento.

    A relative name is taken from the working directory, or from `BENTOML_HOME` if that is inside of a Bento: what is
    written there would go wherever the Bento is exported to. Call it when the service is deployed: while BentoML loads
    a service, and in the workers, the Bento is the working directory.
    """
    folder = Path.cwd()
    if any((parent / "bento.yaml").is_file() for parent in (folder, *folder.parents)):
        folder = Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")
    return (folder / name).resolve()


def prepare_sqlite(url: str) -> None:
    """Create the file of a SQLite URL; does nothing for another store.

    In a folder that its group can write, the group can write the file, too: a container that runs as any user of group
    0 goes on where another has stopped. Raises BentoMLConfigException in one line if the file cannot be written.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        return
    database = Path(parsed.database)
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
