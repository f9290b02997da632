"""From a chat to numbers, the one path that training and serving share.

Everything said is cut into tokens (words and pairs of neighbouring words), and all that is known of a text is a sum
over its tokens. So a token is looked at once and cached, a participant's words are summed once and used for both sides
(one's own words are the other one's "others' words"), and no text needs to be stored: tokens are hashed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import log1p
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.chat import Chat, Identifier

N_BUCKETS = 1 << 17  # hashed n-grams of one side of the chat; weights of both sides fit the artifact's 5 MB
MAX_NGRAM = 4  # characters; longer ones did not pay in cross-validation
BOUNDARY = "\n"  # stands among the words of a side before each message and after the last; no word is written so
LONGEST_WORD = 40  # characters hashed of one word, so that a pasted blob costs no more than a sentence

# What is counted in a word, in the columns of `word_counts`.
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
    "emoji",
    "capitalised words",
    "long words",
)
# What a participant does in the talk, in the columns of `Side.talk`.
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
# and over its square.
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0x61C8864680B583EB))
_QUOTES = frozenset("\"'«»“”„`")
_DASHES = frozenset("-—–")
_SMALL = frozenset(".,?!()-—–\"'«»“”„`:;")


@dataclass(frozen=True, slots=True)
class Side:
    """One participant's side of a chat: the words and what was done with them.

    `words` are the words as written, with a `BOUNDARY` before each message that says something and after the last;
    `talk` has the columns of `TALK`.
    """

    participant_id: Identifier
    words: list[str]
    talk: list[float]


def word_ngrams(word: str) -> NDArray[np.int64]:
    """Hash a word's character n-grams (1 to `MAX_NGRAM`, padded with a space at both ends) and the word itself.

    Returns buckets below `N_BUCKETS`, shape (n-grams,). The scheme is that of scikit-learn's `char_wb` analyzer; the
    hash is CRC-32, which is the same on every machine.
    """
    padded = f" {word[:LONGEST_WORD].lower()} "
    grams = [padded[i : i + n] for n in range(1, MAX_NGRAM + 1) for i in range(len(padded) - n + 1)]
    grams.append(f"w{padded}")
    return np.array([crc32(gram.encode("utf-8", "surrogatepass")) % N_BUCKETS for gram in grams], dtype=np.int64)


def word_hash(word: str) -> int:
    """Hash a word in lower case, for the pairs it stands in; never 0, which is the hash of `BOUNDARY`."""
    return 0 if word == BOUNDARY else crc32(word[:LONGEST_WORD].lower().encode("utf-8", "surrogatepass")) | 1 << 32


def pair_ngrams(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Hash each two neighbours of a row of word hashes, (words,), as one n-gram.

    Returns (words,): buckets, at each word that of the pair it begins; `N_BUCKETS`, which is none, where two boundaries
    meet and at the end.
    """
    mixed = (hashes[:-1] * _MIX[0] + hashes[1:] * _MIX[1]) >> np.uint64(64 - N_BUCKETS.bit_length() + 1)
    mixed[(hashes[:-1] == 0) & (hashes[1:] == 0)] = N_BUCKETS
    return np.concatenate([mixed.astype(np.int64), [N_BUCKETS]])


def word_counts(word: str) -> tuple[int, ...]:
    """Count a word's characters by kind, in the columns of `COUNTS`."""
    letters = capitals = digits = cyrillic = latin = brackets = dashes = quotes = signs = emoji = 0
    for char in word[:LONGEST_WORD]:
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
        elif char not in _SMALL:
            signs += 1
    return (
        letters,
        capitals,
        digits,
        cyrillic,
        latin,
        word.count(","),
        word.count("."),
        word.count("?"),
        word.count("!"),
        brackets,
        dashes,
        quotes,
        signs,
        emoji,
        int(word[:1].isupper()),
        int(len(word) > 8),
    )


class _Turns:
    """What is gathered of one participant's messages, in one pass over the chat."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.words = [BOUNDARY]
        self.said: list[str] = []  # words in lower case
        self.bare: list[str] = []  # and without signs around them
        self.lowered: list[str] = []
        self.lengths: list[int] = []
        self.spoken = self.capitals = self.stops = self.questions = self.letters = self.brackets = self.lines = 0
        self.replies = self.answered = 0  # how often it replied, to how many characters

    def add(self, position: int, text: str) -> None:
        """Take in the message at a position of the chat."""
        self.last = position
        self.lengths.append(len(text))
        lowered = text.lower()
        self.lowered.append(lowered)
        if not text:
            return
        self.spoken += 1
        end = text[-1]
        self.capitals += text[0].isupper()
        self.stops += end == "."
        self.questions += end == "?"
        self.letters += end.isalpha()
        self.brackets += end in "()"
        self.lines += "\n" in text
        said = lowered.split()
        self.words += text.split()
        self.words.append(BOUNDARY)
        self.said += said
        self.bare += [word.strip(".,?!()") for word in said]

    def talk(
        self, messages: int, characters: int, speakers: Mapping[str, int], writers: Mapping[str, int]
    ) -> list[float]:
        """Return the columns of `TALK`, in a chat of so many messages and characters.

        `speakers` says of each word, and `writers` of each message, how many participants wrote it.
        """
        turns, chars, spoken = len(self.lengths), sum(self.lengths), self.spoken or 1
        mean = chars / turns
        n_words = len(self.said) or 1
        return [
            float(self.first == 0),
            log1p(turns),
            turns / messages,
            chars / (characters or 1),
            log1p(len(self.said)),
            log1p(mean),
            log1p((sum([(length - mean) ** 2 for length in self.lengths]) / turns) ** 0.5),
            log1p(max(self.lengths)),
            len(self.said) / turns,
            log1p(self.lengths[0]),
            self.capitals / spoken,
            self.stops / spoken,
            self.questions / spoken,
            self.letters / spoken,
            self.brackets / spoken,
            self.lines / spoken,
            (turns - self.replies - (self.first == 0)) / turns,
            1 - len(set(self.bare)) / n_words,
            1 - len(set(self.lowered)) / turns,
            sum([speakers[word] > 1 for word in self.bare]) / n_words,
            sum([text != "" and writers[text] > 1 for text in self.lowered]) / turns,
            log1p(mean) - log1p(self.answered / (self.replies or 1)),
            self.lengths.count(0) / turns,
            float(self.last == messages - 1),
        ]


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
    for side in turns.values():
        speakers.update(set(side.bare))
        writers.update(set(side.lowered))
    return [
        Side(participant, side.words, side.talk(len(chat.messages), characters, speakers, writers))
        for participant, side in turns.items()
    ]


def style(counts: NDArray[np.float64], talk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Join counts and talk of one side to its style features.

    `counts` (sides, len(COUNTS)) are sums over the words, `talk` is (sides, len(TALK)); returns
    (sides, len(STYLE)): counts for each letter (for each word, where words are counted), then the talk.
    """
    letters = counts[:, :1] + 1
    words = np.expm1(talk[:, TALK.index("words")])[:, None] + 1
    return np.concatenate([counts[:, 1:-2] / letters, counts[:, -2:] / words, talk], axis=1)


STYLE = (*COUNTS[1:], *TALK)
