"""Copies of labelled chats, to train on and to measure with: other turn-taking, and dialogs that are not over yet."""

import numpy as np

from models.chat import Chat, Message, RunningDialog

SPLIT = 0.4  # of the messages with `LONG` or more words are sent in two parts
LONG = 4
LOST = 0.5  # of the shifted chats lose their last message


def shift(chat: Chat, draw: np.random.Generator) -> Chat:
    """Return the chat with another turn-taking: its end may be lost, and messages may be sent in two parts."""
    return split(lose(chat, end=bool(draw.random() < LOST)), draw)


def lose(chat: Chat, *, beginning: bool = False, end: bool = False) -> Chat:
    """Return the chat without its first message, its last one, or both; at least one message stays."""
    messages = chat.messages[:-1] if end and len(chat.messages) > 1 else chat.messages
    messages = messages[1:] if beginning and len(messages) > 1 else messages
    return Chat.model_construct(chat_id=chat.chat_id, messages=messages)


def split(chat: Chat, draw: np.random.Generator) -> Chat:
    """Return the chat with some of its longer messages sent in two parts."""
    texts: list[tuple[int | str, str]] = []
    for message in chat.messages:
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
