"""What becomes of a message, decided without a store."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from models.chat import MAX_MESSAGES, Chat
from records.messages import StoredMessage
from serving.dialogs.dialog import MAX_BYTES, Outcome, admit
from serving.dialogs.dialogs import Dialogs
from serving.dialogs.sqlite_store import SqliteStore
from serving.errors import Problem, RefusedError
from serving.schemas import PlatformMessage


def said(number: int, text: str = "hi", dialog: str = "dialog") -> StoredMessage:
    return StoredMessage(str(number), text, dialog, number % 2)


def outcomes_of(group: list[StoredMessage], stored: list[StoredMessage]) -> list[list[str] | int]:
    """Return the ids of each chat, or the status of each refusal."""
    outcomes, _ = admit(group, stored)
    return [
        int(outcome.status) if isinstance(outcome, RefusedError) else [str(one.message_id) for one in outcome.messages]
        for outcome in outcomes
    ]


def test_each_chat_ends_with_its_message_and_a_retry_is_not_new() -> None:
    stored = [said(1), said(2)]
    group = [said(3), said(9, dialog="other"), said(4), said(3), said(1)]
    upto3 = ["1", "2", "3"]
    assert outcomes_of(group, stored) == [upto3, ["9"], [*upto3, "4"], upto3, ["1"]]
    assert admit(group, stored)[1] == group[:3]


def test_messages_of_a_group_share_what_came_before() -> None:
    """Made anew for each, 64 messages of a long dialog took more than a second."""
    chats, _ = admit([said(3), said(4), said(1)], [said(1), said(2)])
    assert len({id(chat.messages[0]) for chat in chats if isinstance(chat, Chat)}) == 1


def test_a_chat_has_what_was_said_and_by_whom() -> None:
    (chat,), _ = admit([said(3, "привет")], [])
    assert isinstance(chat, Chat)
    assert chat.model_dump() == {
        "chat_id": "dialog",
        "messages": [{"message_id": "3", "text": "привет", "participant_id": 1}],
        "finished": False,
    }


def test_other_content_under_an_id_is_a_conflict_also_in_another_dialog() -> None:
    stored = [said(1), said(2, dialog="other")]
    group = [said(1, "changed"), said(2), said(3), said(3, "changed")]
    assert outcomes_of(group, stored) == [409, 409, ["1", "3"], 409]


def test_a_full_dialog_takes_no_more_and_answers_retries() -> None:
    stored = [said(number) for number in range(MAX_MESSAGES)]
    assert outcomes_of([said(-1), said(0)], stored) == [413, ["0"]]


def test_bytes_are_counted_in_utf_8() -> None:
    stored = [said(number, "😀" * 8_000) for number in range(MAX_BYTES // 32_000)]  # 992,000 bytes
    assert outcomes_of([said(100, "я" * 4_001)], stored) == [413]
    fits, beyond = outcomes_of([said(100, "я" * 4_000), said(101, "a")], stored)
    assert (isinstance(fits, list), beyond) == (True, 413)


async def test_callers_who_give_up_while_a_group_is_split_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exchanged: list[list[str]] = []
    callers: list[asyncio.Task[Chat]] = []

    async def exchange(_: SqliteStore, group: Sequence[StoredMessage]) -> list[Outcome]:
        exchanged.append([one.id for one in group])
        if len(group) > 1:
            raise ValueError  # as for a character that the store's encoding lacks
        for caller in callers[1:]:
            caller.cancel()
        await asyncio.sleep(0)  # they end
        return [RefusedError(Problem.UNSTORABLE)]

    monkeypatch.setattr(SqliteStore, "exchange", exchange)
    dialogs = Dialogs(tmp_path / "dialogs.sqlite")
    for number in ("1", "2", "3"):
        message = PlatformMessage(text="hi", dialog_id="d", id=number, participant_index=0)
        callers.append(asyncio.create_task(dialogs.store_message(message)))
    await asyncio.wait(callers)
    await dialogs.close()
    assert exchanged == [["1", "2", "3"], ["1"]]
