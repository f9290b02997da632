"""What a store does with the table of messages (`records/messages.py`).

There are two stores, `sqlite_store.py` and `postgres_store.py`. Each keeps one connection, opened when it is first
needed. After an error in a transaction the connection is closed, because it may be stale (a restart, a failover), and
the next use opens another.

Any number of processes may share the table: one transaction at a time writes to SQLite, and to PostgreSQL one at a time
for each dialog.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import uuid4

from records.messages import StoredMessage
from serving.dialogs.dialog import Outcome

COUNT_DIALOGS = "SELECT count(DISTINCT dialog_id) FROM messages"
FIND_OLD = """SELECT dialog_id FROM messages
    WHERE dialog_id IN (SELECT DISTINCT dialog_id FROM messages WHERE created_at < {oldest})
    GROUP BY dialog_id HAVING max(created_at) < {oldest} LIMIT 20"""
# A dialog that has got a message since it was found stays.
DELETE_OLD = """DELETE FROM messages WHERE dialog_id = {dialog}
    AND NOT EXISTS (SELECT 1 FROM messages WHERE dialog_id = {dialog} AND created_at >= {oldest})"""


class Store(Protocol):
    """Where messages are kept. Errors of the driver come through as they are; `cause_of` reads them."""

    async def exchange(self, group: Sequence[StoredMessage]) -> list[Outcome]:
        """Store the new ones of a group of messages in one transaction; returns what becomes of each, in order."""
        ...

    async def probe(self) -> None:
        """Store a message as `exchange` does, and take it back; raises what keeps messages from being stored."""
        ...

    async def delete_some(self, oldest: datetime) -> int:
        """Delete some of the dialogs whose last message is older; returns how many were found, 0 if there are no more.

        They are few, so that messages do not wait long for the transaction, and not at all for the search.
        """
        ...

    async def count(self) -> int:
        """Return the number of dialogs, without holding up messages."""
        ...

    async def close(self) -> None:
        """Close the connection; the next use opens another."""
        ...


def make_probe() -> StoredMessage:
    """Return a message that no dialog has, to find out whether messages can be stored."""
    name = f"probe-{uuid4()}"
    return StoredMessage(name, "", name, 0)
