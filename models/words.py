"""A human's words for each signal: what the page at `/try`, `/explain` and the training report call it.

A signal counts for a bot or for a person, whether it is large or small; its words name what was looked at, not which
way it points.
"""

from collections.abc import Mapping
from dataclasses import dataclass

OTHER = "the other one: "  # begins the names of the signals that describe the other participant


@dataclass(frozen=True, slots=True)
class Words:
    """A signal in words, in each language of the page."""

    en: str
    ru: str


OF_THE_OTHER = Words("the other side: {}", "собеседник: {}")
WORDS: Mapping[str, Words] = {
    # what the linear model says of the words
    "says what bots say": Words("words that bots use", "слова, как у ботов"),
    "says what is said to bots": Words("words that people say to bots", "слова, с какими обращаются к ботам"),
    # characters and words
    "capitals": Words("capital letters", "заглавные буквы"),
    "digits": Words("digits", "цифры"),
    "Cyrillic letters": Words("Cyrillic letters", "кириллица"),
    "Latin letters": Words("Latin letters", "латиница"),
    "commas": Words("commas", "запятые"),
    "full stops": Words("full stops", "точки"),
    "question marks": Words("question marks", "вопросительные знаки"),
    "exclamation marks": Words("exclamation marks", "восклицательные знаки"),
    "brackets as smiles": Words("brackets, as in smileys", "скобки-улыбки"),
    "dashes": Words("dashes", "тире и дефисы"),
    "quotation marks": Words("quotation marks", "кавычки"),
    "other signs": Words("rare signs", "редкие знаки"),
    "emoji": Words("emoji", "эмодзи"),
    "capitalised words": Words("words with a capital letter", "слова с большой буквы"),
    "long words": Words("long words", "длинные слова"),
    # how a participant takes part
    "opens the chat": Words("who wrote first", "кто написал первым"),
    "messages": Words("number of messages", "число сообщений"),
    "share of the messages": Words("share of the messages", "доля сообщений в чате"),
    "share of the characters": Words("share of the text", "доля текста в чате"),
    "words": Words("how much was written", "сколько написано"),
    "mean length of a message": Words("usual length of a message", "обычная длина сообщения"),
    "spread of the lengths": Words("how much the lengths vary", "разброс длин сообщений"),
    "longest message": Words("longest message", "самое длинное сообщение"),
    "words in a message": Words("words in a message", "слов в сообщении"),
    "length of the first message": Words("length of the first message", "длина первого сообщения"),
    "starts with a capital letter": Words("messages that start with a capital letter", "сообщения с большой буквы"),
    "ends with a full stop": Words("messages that end with a full stop", "сообщения с точкой в конце"),
    "ends with a question mark": Words("messages that end with a question", "сообщения с вопросом в конце"),
    "ends with a letter": Words("messages without any sign at the end", "сообщения без знака в конце"),
    "ends with a bracket": Words("messages that end with a bracket", "сообщения со скобкой в конце"),
    "several lines in a message": Words("messages of several lines", "сообщения в несколько строк"),
    "writes twice in a row": Words("messages in a row", "несколько сообщений подряд"),
    "repeats own words": Words("repeats of own words", "повторы своих слов"),
    "repeats own messages": Words("repeats of own messages", "повторы своих сообщений"),
    "repeats the other one's words": Words("words taken from the other side", "слова, взятые у собеседника"),
    "repeats the other one's messages": Words("messages copied from the other side", "повторы сообщений собеседника"),
    "reply length relative to the other one's": Words(
        "length of replies, beside what they answer", "длина ответов рядом с тем, на что они отвечают"
    ),
    "empty messages": Words("empty messages", "пустые сообщения"),
    "has the last word": Words("who wrote last", "кто написал последним"),
}


def words_for(signal: str) -> Words:
    """Return a human's words for a signal of `models/signals.py`; raises KeyError for another name."""
    if not signal.startswith(OTHER):
        return WORDS[signal]
    words = WORDS[signal.removeprefix(OTHER)]
    return Words(OF_THE_OTHER.en.format(words.en), OF_THE_OTHER.ru.format(words.ru))
