"""Copy the dialogs of a SQLite file, and put a copy in their place, while the service runs or not.

    python -m serving.backup save > dialogs.sqlite
    python -m serving.backup restore < dialogs.sqlite

The file alone is not a copy: the last messages are in SQLite's log beside it. Each command is one transaction, so that
a copy holds every message that was answered before.
"""

import argparse
import asyncio
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from bentoml.exceptions import BentoMLException

from records.messages import UnusableStoreError
from serving.dialogs.dialogs import Dialogs
from serving.dialogs.sqlite_store import prepare_file
from serving.settings import read_settings

LOCK_SECONDS = 60  # to wait for messages that are being stored


def save(database: Path, out: BinaryIO) -> int:
    """Write a copy of a database; returns its number of messages."""
    with TemporaryDirectory(prefix="backup-", dir=database.parent) as folder:
        file = Path(folder, "copy.sqlite")
        with closing(_open(database)) as source, closing(sqlite3.connect(file)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log
            number = _check(copy)
        with file.open("rb") as content:
            shutil.copyfileobj(content, out)
        out.flush()
    return number


def restore(database: Path, given: BinaryIO) -> int:
    """Replace the content of a database by that of a copy, which is checked first; returns its number of messages."""
    prepare_file(database)  # which may hold a table that this version does not know: all of it is replaced
    with TemporaryDirectory(prefix="backup-", dir=database.parent) as folder:
        file = Path(folder, "copy.sqlite")
        with file.open("wb") as content:
            shutil.copyfileobj(given, content)
        with closing(_open(file)) as copy:
            number = _check(copy)
        asyncio.run(Dialogs(file).check())  # brings the table up to date
        with closing(_open(file)) as copy, closing(sqlite3.connect(database, timeout=LOCK_SECONDS)) as target:
            copy.backup(target)
    return number


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=LOCK_SECONDS)


def _check(copy: sqlite3.Connection) -> int:
    """Return the number of messages; raises sqlite3.Error for what is no whole copy."""
    ((found,),) = copy.execute("PRAGMA quick_check(1)")
    if found != "ok":
        raise sqlite3.DatabaseError(found)
    ((number,),) = copy.execute("SELECT count(*) FROM messages")
    return int(number)


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.backup", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "what", choices=["save", "restore"], help="save to standard output, restore from standard input"
    )
    saves = parser.parse_args().what == "save"
    if (sys.stdout if saves else sys.stdin).isatty():
        parser.error("redirect it: save > dialogs.sqlite, restore < dialogs.sqlite")
    try:
        database = read_settings().store
        if not isinstance(database, Path):
            raise BentoMLException("the dialogs are in PostgreSQL: use pg_dump and pg_restore")
        number = save(database, sys.stdout.buffer) if saves else restore(database, sys.stdin.buffer)
    except (BentoMLException, UnusableStoreError, sqlite3.Error, OSError) as error:
        print(f"backup: {error}", file=sys.stderr)
        return 1
    print(f"{database}: {'saved' if saves else 'restored'} {number} messages", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
