"""One dialog: which messages it admits, given those that are stored already."""

from collections import defaultdict
from collections.abc import Sequence

from models.chat import MAX_MESSAGES, Chat, Message
from records.messages import StoredMessage
from serving.errors import Problem, RefusedError

MAX_BYTES = 1_000_000  # of all texts of a dialog, in UTF-8
LIMITS = f"{MAX_MESSAGES} messages or {MAX_BYTES} bytes"
FULL = [{"field": "dialog_id", "message": "Is full"}]
TAKEN = [{"field": "id", "message": "Is taken"}]

Outcome = Chat | RefusedError


def admit(group: Sequence[StoredMessage], stored: Sequence[StoredMessage]) -> tuple[list[Outcome], list[StoredMessage]]:
    """Decide which messages of a group are stored, in order.

    `stored` holds all stored messages of the group's dialogs, and those of other dialogs that have an id of the group.
    Returns one outcome for each message of the group (the chat of its dialog up to it, or `RefusedError` with 409 or
    413), and the messages that are new, which are to be stored.
    """
    known = {message.id: message for message in stored}
    dialogs: dict[str, list[Message]] = defaultdict(list)
    for message in stored:
        dialogs[message.dialog_id].append(message.as_said())
    outcomes: list[Outcome] = []
    new: list[StoredMessage] = []
    for message in group:
        dialog = dialogs[message.dialog_id]
        if message.id not in known:
            if not _has_room(dialog, message):
                outcomes.append(RefusedError(Problem.DIALOG_FULL, FULL, limit=LIMITS))
                continue
            dialog.append(message.as_said())
            known[message.id] = message
            new.append(message)
        if known[message.id] == message:
            end = [one.message_id for one in dialog].index(message.id) + 1
            outcomes.append(Chat.model_construct(chat_id=message.dialog_id, messages=dialog[:end]))
        else:
            outcomes.append(RefusedError(Problem.CONFLICT, TAKEN))
    return outcomes, new


def _has_room(dialog: Sequence[Message], message: StoredMessage) -> bool:
    """Return whether a dialog stays within its limits with one more message."""
    texts = [*(one.text for one in dialog), message.text]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return len(dialog) < MAX_MESSAGES and size <= MAX_BYTES
