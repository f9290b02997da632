"""What each signal is called for people: on the page at `/try`, in `/explain` and in the reports.

A signal counts for a bot or for a person, whether it is large or small; its words name what was looked at, not which
way it points.
"""

from collections.abc import Mapping

from .chat import Words
from .signals import OTHER

# English and Russian, the languages of the page
OF_THE_OTHER = ("the other side: {}", "собеседник: {}")
WORDS: Mapping[str, tuple[str, str]] = {
    # what the linear model says of the words
    "says what bots say": ("words that bots use", "слова, как у ботов"),
    "says what is said to bots": ("words that people say to bots", "так пишут ботам"),
    # characters and words
    "capitals": ("capital letters", "заглавные буквы"),
    "digits": ("digits", "цифры"),
    "Cyrillic letters": ("Cyrillic letters", "кириллица"),
    "Latin letters": ("Latin letters", "латиница"),
    "commas": ("commas", "запятые"),
    "full stops": ("full stops", "точки"),
    "question marks": ("question marks", "вопросительные знаки"),
    "exclamation marks": ("exclamation marks", "восклицательные знаки"),
    "brackets as smiles": ("brackets, as in smileys", "скобки-улыбки"),
    "dashes": ("dashes", "тире и дефисы"),
    "quotation marks": ("quotation marks", "кавычки"),
    "other signs": ("rare signs", "редкие знаки"),
    "emoji": ("emoji", "эмодзи"),
    "capitalised words": ("words with a capital letter", "слова с большой буквы"),
    "long words": ("long words", "длинные слова"),
    # how a participant takes part
    "opens the chat": ("who wrote first", "кто написал первым"),
    "messages": ("number of messages", "число сообщений"),
    "share of the messages": ("share of the messages", "доля сообщений в чате"),
    "share of the characters": ("share of the text", "доля текста в чате"),
    "words": ("how much was written", "сколько написано"),
    "mean length of a message": ("usual length of a message", "обычная длина сообщения"),
    "spread of the lengths": ("how much the lengths vary", "разброс длин сообщений"),
    "longest message": ("longest message", "самое длинное сообщение"),
    "length of the first message": ("length of the first message", "длина первого сообщения"),
    "starts with a capital letter": ("messages that start with a capital letter", "сообщения с большой буквы"),
    "ends with a full stop": ("messages that end with a full stop", "сообщения с точкой в конце"),
    "ends with a question mark": ("messages that end with a question", "сообщения с вопросом в конце"),
    "ends with a letter": ("no punctuation at the end", "без точки или другого знака в конце"),
    "ends with a bracket": ("messages that end with a bracket", "сообщения со скобкой в конце"),
    "several lines in a message": ("messages of several lines", "сообщения в несколько строк"),
    "writes twice in a row": ("messages in a row", "несколько сообщений подряд"),
    "repeats own words": ("repeats of own words", "повторы своих слов"),
    "repeats own messages": ("repeats of own messages", "повторы своих сообщений"),
    "repeats the other one's words": ("words taken from the other side", "слова, взятые у собеседника"),
    "repeats the other one's messages": ("messages copied from the other side", "повторы сообщений собеседника"),
    "reply length relative to the other one's": (
        "length of replies, beside what they answer",
        "длина ответов рядом с тем, на что они отвечают",
    ),
    "has the last word": ("who wrote last", "кто написал последним"),
}


def words_for(signal: str) -> Words:
    """Return what people read for a signal of `models/signals.py`; raises KeyError for another name."""
    english, russian = WORDS[signal.removeprefix(OTHER)]
    if signal.startswith(OTHER):
        english, russian = (of.format(words) for of, words in zip(OF_THE_OTHER, (english, russian), strict=True))
    return Words(en=english, ru=russian)
