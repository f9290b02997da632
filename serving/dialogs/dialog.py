"""One dialog: which messages it admits, given those that are stored already."""

from collections.abc import Sequence

from models.chat import MAX_MESSAGES, Chat, Message
from records.messages import StoredMessage
from serving.errors import Problem, RefusedError

MAX_BYTES = 1_000_000  # of all texts of a dialog, in UTF-8
LIMITS = f"{MAX_MESSAGES} messages or {MAX_BYTES} bytes"
FULL = [{"field": "dialog_id", "message": "Is full"}]
TAKEN = [{"field": "id", "message": "Is taken"}]

Outcome = Chat | RefusedError


class Dialog:
    """The messages of one dialog, in the order of their arrival."""

    def __init__(self, dialog_id: str) -> None:
        self._id = dialog_id
        self._messages: list[Message] = []
        self._bytes = 0

    def has_room_for(self, message: StoredMessage) -> bool:
        """Return whether the dialog stays within its limits with one more message."""
        return len(self._messages) < MAX_MESSAGES and self._bytes + _size(message) <= MAX_BYTES

    def add(self, message: StoredMessage) -> None:
        """Append a message."""
        self._messages.append(message.as_said())
        self._bytes += _size(message)

    def chat_up_to(self, message_id: str) -> Chat:
        """Return the chat that ends with the given message, which is part of the dialog."""
        end = len(self._messages)
        while self._messages[end - 1].message_id != message_id:
            end -= 1
        return Chat.model_construct(chat_id=self._id, messages=self._messages[:end])


def admit(group: Sequence[StoredMessage], stored: Sequence[StoredMessage]) -> tuple[list[Outcome], list[StoredMessage]]:
    """Decide which messages of a group are stored, in order.

    `stored` holds all stored messages of the group's dialogs, and those of other dialogs that have an id of the group.
    Returns one outcome for each message of the group (the chat of its dialog up to it, or `RefusedError` with 409 or
    413), and the messages that are new, which are to be stored.
    """
    known = {message.id: message for message in stored}
    dialogs = {message.dialog_id: Dialog(message.dialog_id) for message in group}
    for message in stored:
        if message.dialog_id in dialogs:
            dialogs[message.dialog_id].add(message)
    outcomes: list[Outcome] = []
    new: list[StoredMessage] = []
    for message in group:
        dialog = dialogs[message.dialog_id]
        if message.id not in known:
            if not dialog.has_room_for(message):
                outcomes.append(RefusedError(Problem.DIALOG_FULL, FULL, limit=LIMITS))
                continue
            dialog.add(message)
            known[message.id] = message
            new.append(message)
        if known[message.id] == message:
            outcomes.append(dialog.chat_up_to(message.id))
        else:
            outcomes.append(RefusedError(Problem.CONFLICT, TAKEN))
    return outcomes, new


def _size(message: StoredMessage) -> int:
    return len(message.text.encode("utf-8", "surrogatepass"))
