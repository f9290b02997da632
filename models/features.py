"""Turn a chat into numbers. Training and serving share this module.

Texts are split into tokens (words and pairs of neighbouring words). The scores of n-grams are sums over tokens, and
`COUNTS` are sums over words. Each participant's words are summed once: the sums serve the participant's own signals
and, as those of "the other one", the signals of the others. What a word adds is cached (`models/ngrams.py`). Tokens are
hashed: the artifact holds no text. `TALK` describes how a participant takes part in the chat.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import log1p
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from .chat import Chat, Identifier

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_BUCKETS = 1 << 17  # hash buckets for n-grams
MAX_NGRAM = 4  # characters; longer n-grams did not help in cross-validation
BOUNDARY = "\n"  # precedes each message's words and follows the last message; cannot occur in a word
LONGEST_WORD = 40  # characters of a word that are read, so that a pasted blob costs no more than a sentence

# The columns of `word_counts`.
COUNTS = (
    "letters",
    "capitals",
    "digits",
    "Cyrillic letters",
    "Latin letters",
    "commas",
    "full stops",
    "question marks",
    "exclamation marks",
    "brackets as smiles",
    "dashes",
    "quotation marks",
    "other signs",
    "emoji",  # and other characters from U+2600 on, such as Chinese ones that are no letters
    "capitalised words",
    "long words",
)
# The columns of `Side.talk`: how a participant takes part in the chat. "messages", "words" and lengths in characters
# are log1p.
TALK = (
    "opens the chat",
    "messages",
    "share of the messages",
    "share of the characters",
    "words",
    "mean length of a message",
    "spread of the lengths",
    "longest message",
    "words in a message",
    "length of the first message",
    "starts with a capital letter",
    "ends with a full stop",
    "ends with a question mark",
    "ends with a letter",
    "ends with a bracket",
    "several lines in a message",
    "writes twice in a row",
    "repeats own words",
    "repeats own messages",
    "repeats the other one's words",
    "repeats the other one's messages",
    "reply length relative to the other one's",
    "empty messages",
    "has the last word",
)
# Odd multipliers of multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4): 2^64 over the golden ratio,
# and over its square. They add up to 2^64: only the difference of the two words' hashes counts, and all doubled words
# share a bucket. Multipliers without this flaw, tried with a new training, moved no figure of the model card by more
# than chance does.
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0x61C8864680B583EB))
_QUOTES = frozenset("\"'«»“”„`")
_DASHES = frozenset("-—–")
_NO_SIGNS = frozenset(".,?!:;")  # they have columns of their own, or, as the last two, none


@dataclass(frozen=True, slots=True)
class Side:
    """One participant's side of a chat.

    `words` holds the words as written, with a `BOUNDARY` before each non-empty message and after the last one; `talk`
    has the columns of `TALK`.
    """

    participant_id: Identifier
    words: list[str]
    talk: list[float]


def word_ngrams(word: str) -> Ints:
    """Hash a word's character n-grams (1 to `MAX_NGRAM`, padded with a space at both ends) and the word itself.

    Returns buckets below `N_BUCKETS`, shape (n-grams,). The scheme is that of scikit-learn's `char_wb` analyzer; the
    hash is CRC-32, which is the same on every machine.
    """
    padded = f" {word[:LONGEST_WORD].lower()} "
    grams = [padded[i : i + n] for n in range(1, MAX_NGRAM + 1) for i in range(len(padded) - n + 1)]
    grams.append(f"w{padded}")
    return np.array([crc32(gram.encode("utf-8", "surrogatepass")) % N_BUCKETS for gram in grams], dtype=np.int64)


def word_hash(word: str) -> int:
    """Hash a word in lower case, for its pairs; 0 for `BOUNDARY` and nothing else."""
    return 0 if word == BOUNDARY else crc32(word[:LONGEST_WORD].lower().encode("utf-8", "surrogatepass")) | 1 << 32


def pair_ngrams(hashes: NDArray[np.uint64]) -> Ints:
    """Hash each two neighbours of a row of word hashes, (words,), as one n-gram.

    Returns (words,): for each word, the bucket of the pair it begins, or `N_BUCKETS` (no n-gram) at the end and where
    two boundaries meet, as at the seam of two sides, whose words follow one another in the row.
    """
    mixed = (hashes[:-1] * _MIX[0] + hashes[1:] * _MIX[1]) >> np.uint64(64 - N_BUCKETS.bit_length() + 1)
    mixed[(hashes[:-1] == 0) & (hashes[1:] == 0)] = N_BUCKETS
    return np.concatenate([mixed.astype(np.int64), [N_BUCKETS]])


def word_counts(word: str) -> tuple[int, ...]:
    """Count a word's characters by kind, in the columns of `COUNTS`."""
    head = word[:LONGEST_WORD]
    letters = capitals = digits = cyrillic = latin = brackets = dashes = quotes = signs = emoji = 0
    for char in head:
        if char.isalpha():
            letters += 1
            capitals += char.isupper()
            if "\u0400" <= char <= "\u04ff":
                cyrillic += 1
            elif char < "\u0250":
                latin += 1
        elif char.isdigit():
            digits += 1
        elif char in "()":
            brackets += 1
        elif char in _DASHES:
            dashes += 1
        elif char in _QUOTES:
            quotes += 1
        elif char >= "\u2600":
            emoji += 1
        elif char not in _NO_SIGNS:
            signs += 1
    return (
        letters,
        capitals,
        digits,
        cyrillic,
        latin,
        *map(head.count, ",.?!"),
        brackets,
        dashes,
        quotes,
        signs,
        emoji,
        int(word[:1].isupper()),
        int(len(word) > 8),
    )


class _Turns:
    """What one participant's messages add up to, gathered in one pass over the chat."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.words = [BOUNDARY]
        self.bare: list[str] = []  # words in lower case, without surrounding punctuation
        self.lowered: list[str] = []
        self.lengths: list[int] = []
        self.spoken = 0  # messages with a text; the next six count those of them with one thing or another
        self.with_capital = self.with_stop = self.with_question = self.with_letter = self.with_bracket = 0
        self.with_lines = 0
        self.replies = self.answered = 0  # number of replies, and of characters they replied to

    def add(self, position: int, text: str) -> None:
        """Add the message at a position of the chat."""
        self.last = position
        self.lengths.append(len(text))
        lowered = text.lower()
        self.lowered.append(lowered)
        if not text:
            return
        self.spoken += 1
        end = text[-1]
        self.with_capital += text[0].isupper()
        self.with_stop += end == "."
        self.with_question += end == "?"
        self.with_letter += end.isalpha()
        self.with_bracket += end in "()"
        self.with_lines += "\n" in text
        self.words += text.split()
        self.words.append(BOUNDARY)
        self.bare += [word.strip(".,?!()") for word in lowered.split()]

    def talk(
        self, messages: int, characters: int, speakers: Mapping[str, int], writers: Mapping[str, int]
    ) -> list[float]:
        """Return the columns of `TALK`, in their order, in a chat of so many messages and characters.

        `speakers` holds for each word, and `writers` for each message, how many participants wrote it.
        """
        turns, chars, spoken = len(self.lengths), sum(self.lengths), self.spoken or 1
        mean = chars / turns
        words = len(self.bare)
        values = {
            "opens the chat": float(self.first == 0),
            "messages": log1p(turns),
            "share of the messages": turns / messages,
            "share of the characters": chars / (characters or 1),
            "words": log1p(words),
            "mean length of a message": log1p(mean),
            "spread of the lengths": log1p((sum([(length - mean) ** 2 for length in self.lengths]) / turns) ** 0.5),
            "longest message": log1p(max(self.lengths)),
            "words in a message": words / turns,
            "length of the first message": log1p(self.lengths[0]),
            "starts with a capital letter": self.with_capital / spoken,
            "ends with a full stop": self.with_stop / spoken,
            "ends with a question mark": self.with_question / spoken,
            "ends with a letter": self.with_letter / spoken,
            "ends with a bracket": self.with_bracket / spoken,
            "several lines in a message": self.with_lines / spoken,
            "writes twice in a row": (turns - self.replies - (self.first == 0)) / turns,
            "repeats own words": 1 - len(set(self.bare)) / (words or 1),
            "repeats own messages": 1 - len(set(self.lowered)) / turns,
            "repeats the other one's words": sum([speakers[word] > 1 for word in self.bare]) / (words or 1),
            "repeats the other one's messages": sum([text != "" and writers[text] > 1 for text in self.lowered])
            / turns,
            "reply length relative to the other one's": log1p(mean) - log1p(self.answered / (self.replies or 1)),
            "empty messages": self.lengths.count(0) / turns,
            "has the last word": float(self.last == messages - 1),
        }
        return [values[name] for name in TALK]


def read_sides(chat: Chat) -> list[Side]:
    """Split a chat into its participants' sides, in the order of their first message."""
    turns: dict[Identifier, _Turns] = {}
    characters = 0
    before: _Turns | None = None
    for position, message in enumerate(chat.messages):
        now = turns.get(message.participant_id)
        if now is None:
            now = turns[message.participant_id] = _Turns(position)
        text = message.text.strip()
        if before is not None and before is not now:
            now.replies += 1
            now.answered += before.lengths[-1]
        characters += len(text)
        now.add(position, text)
        before = now
    speakers: Counter[str] = Counter()
    writers: Counter[str] = Counter()
    for own in turns.values():
        speakers.update(set(own.bare))
        writers.update(set(own.lowered))
    return [
        Side(participant, own.words, own.talk(len(chat.messages), characters, speakers, writers))
        for participant, own in turns.items()
    ]


STYLE = (*COUNTS[1:], *TALK)
_LETTERS = COUNTS.index("letters")
_OF_WORDS = COUNTS.index("capitalised words")  # the first of the columns that count words instead of characters
_LOG_WORDS = TALK.index("words")


def style(counts: Floats, talk: Floats) -> Floats:
    """Combine the counts and the talk of each side into its style features.

    `counts` (sides, len(COUNTS)) are sums over the words, `talk` is (sides, len(TALK)); returns (sides, len(STYLE)):
    counts per letter (per word for the columns that count words), then the talk.
    """
    letters = counts[:, _LETTERS, None] + 1
    words = np.expm1(talk[:, _LOG_WORDS, None]) + 1
    of_characters, of_words = counts[:, _LETTERS + 1 : _OF_WORDS], counts[:, _OF_WORDS:]
    return np.concatenate([of_characters / letters, of_words / words, talk], axis=1)
