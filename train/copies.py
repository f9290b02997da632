"""Copies of labelled chats, to train on and to measure with: other turn-taking, and dialogs that are not over yet."""

import numpy as np

from models.chat import Chat, Message, RunningDialog

SPLIT = 0.4  # of the messages with `LONG` or more words are sent in two parts
LONG = 4
LOST = 0.5  # of the chats lose their last message; where the beginning may be lost, of the chats lose their first one


def shift(chat: Chat, draw: np.random.Generator, *, beginning: bool = False) -> Chat:
    """Return the chat with another turn-taking: the last message lost, messages sent in two parts.

    With `beginning`, the first message may be lost as well. At least one message stays. Participants keep their
    identifiers.
    """
    messages = list(chat.messages)
    if draw.random() < LOST and len(messages) > 1:
        del messages[-1]
    if beginning and draw.random() < LOST and len(messages) > 1:
        del messages[0]
    texts: list[tuple[int | str, str]] = []
    for message in messages:
        words = message.text.split()
        if len(words) >= LONG and draw.random() < SPLIT:
            at = int(draw.integers(1, len(words)))
            texts += [(message.participant_id, " ".join(part)) for part in (words[:at], words[at:])]
        else:
            texts.append((message.participant_id, message.text))
    parts = [
        Message.model_construct(message_id=number, participant_id=participant, text=text)
        for number, (participant, text) in enumerate(texts)
    ]
    return Chat.model_construct(chat_id=chat.chat_id, messages=parts)


def so_far(chat: Chat, messages: int) -> RunningDialog:
    """Return the dialog as it was after so many messages."""
    return RunningDialog.model_construct(chat_id=chat.chat_id, messages=chat.messages[:messages])


def last_answers(chat: Chat, messages: int | None = None) -> dict[int | str, int]:
    """Return for each participant the number of messages up to and with its last one.

    That is when the platform asks about it for the last time. Counted are the first `messages` messages of the chat,
    all of them by default; participants stand in the order of their first message.
    """
    return {message.participant_id: number for number, message in enumerate(chat.messages[:messages], start=1)}
