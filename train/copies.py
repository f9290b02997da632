"""Copies of labelled chats to train on and to measure with.

They withhold what is not known in use: how the chat began, whether it goes on, and who will have the last word. Those
with split messages keep the classifier from relying on how chats were recorded; those in which a bot uses a stock
phrase of assistants, from taking it for a person's: in the game, it is mostly people who use them, to tease.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.chat import Chat, Message

BEGINNINGS = 5  # beginnings of a chat to train on, drawn from all of them
LATE_CHATS = 2.0  # weight of a chat without its first message (a chat weighs 1), and of all its beginnings together
ALTERED = 0.15  # weight of a copy with messages in two parts, or with a stock phrase
SPLIT, LONG = 0.4, 4  # share of the messages that are split, of those with so many words or more
# What assistants say, in Russian and in English.
STOCK_PHRASES: dict[str, list[str]] = json.loads(Path(__file__).with_name("stock_phrases.json").read_bytes())


@dataclass(frozen=True)
class Copy:
    """A chat to train on, its weight for the trees and for the linear model, and whether it is `whole`."""

    chat: Chat
    weight: float
    reading: float = 0
    whole: bool = False


def copies(chat: Chat, who: Mapping[int | str, int], draw: np.random.Generator, *, at_home: bool) -> Iterator[Copy]:
    """Yield what is trained on for a chat; `who` holds the participants' labels.

    The chat counts as a whole, as a finished one if it is one of the home game, and with some of its beginnings; and
    without its first message, never finished, so that little depends on who opened it. Copies with messages in two
    parts and with stock phrases count little.
    """
    if at_home:
        yield Copy(chat.model_copy(update={"finished": True}), 1)
    late = excerpt(chat, start=1)
    yield Copy(chat, 1, reading=1, whole=True)
    yield Copy(late, LATE_CHATS)
    for known, weight in ((chat, 1.0), (late, LATE_CHATS)):
        cuts = draw.permutation(np.arange(1, len(known.messages)))[:BEGINNINGS]
        yield from (Copy(excerpt(known, end=int(cut)), weight / len(cuts)) for cut in cuts)
    yield from (Copy(split(known, draw), ALTERED) for known in (chat, excerpt(late, end=-1)))
    if bots := [participant for participant, is_bot in who.items() if is_bot]:
        assisted, at = assist(chat, bots, draw)
        yield Copy(assisted, ALTERED, reading=ALTERED)
        yield Copy(excerpt(assisted, end=at + 1), ALTERED)


def excerpt(chat: Chat, *, start: int = 0, end: int | None = None) -> Chat:
    """Return the messages of a slice as a chat that is not finished; all messages, should the slice be empty."""
    return Chat.model_construct(chat_id=chat.chat_id, messages=chat.messages[start:end] or chat.messages)


def split(chat: Chat, draw: np.random.Generator) -> Chat:
    """Return the chat with some of its longer messages sent in two parts."""
    parts: list[Message] = []
    for message in chat.messages:
        words, texts = message.text.split(), [message.text]
        if len(words) >= LONG and draw.random() < SPLIT:
            at = int(draw.integers(1, len(words)))
            texts = [" ".join(words[:at]), " ".join(words[at:])]
        for text in texts:
            parts.append(message.model_copy(update={"message_id": len(parts), "text": text}))
    return Chat.model_construct(chat_id=chat.chat_id, messages=parts)


def assist(chat: Chat, bots: Collection[int | str], draw: np.random.Generator) -> tuple[Chat, int]:
    """Return the chat with a stock phrase in a message of one of the bots, and the index of the message.

    The phrase is in the language of the chat. It replaces the message or is added to its beginning or its end.
    """
    at = int(draw.choice([at for at, message in enumerate(chat.messages) if message.participant_id in bots]))
    letters = [letter for message in chat.messages for letter in message.text if letter.isalpha()]
    language = "Russian" if sum(map(str.isascii, letters)) < len(letters) / 2 else "English"
    phrase, said = str(draw.choice(STOCK_PHRASES[language])), chat.messages[at].text
    text = (phrase, f"{phrase} {said}", f"{said} {phrase}")[int(draw.integers(3))]
    changed = chat.messages[at].model_copy(update={"text": text})
    messages = [*chat.messages[:at], changed, *chat.messages[at + 1 :]]
    return Chat.model_construct(chat_id=chat.chat_id, messages=messages), at


def last_answers(chat: Chat, messages: int | None = None) -> dict[int | str, int]:
    """Return for each participant the number of messages up to and with its last one.

    That is when the platform asks about it for the last time. Only the first `messages` messages count, by default
    all of them; participants stand in the order of their first message.
    """
    return {message.participant_id: number for number, message in enumerate(chat.messages[:messages], start=1)}
