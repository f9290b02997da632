"""Turn a chat into numbers. Training and serving share this module.

Texts are split into tokens (words and pairs of neighbouring words). The scores of n-grams are sums over tokens, and
`COUNTS` are sums over words (`models/ngrams.py`). Tokens are hashed: the artifact holds no text. `TALK` describes how a
participant takes part in the chat.

A signal of style is declared in one place: what is counted in words in `OF_LETTERS` or `OF_WORDS`, all else in `TALK`.
"""

from collections.abc import Callable, Iterable, Mapping, Set, Sized
from functools import lru_cache
from math import log1p
from typing import NamedTuple
from unicodedata import category
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from .chat import Chat, Identifier
from .texts import read_text

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_BUCKETS = 1 << 17  # hash buckets for n-grams
MAX_NGRAM = 4  # characters; longer n-grams did not help in cross-validation
BOUNDARY = "\n"  # precedes each message's words and follows the last message; cannot occur in a word
LONGEST_WORD = 40  # characters that are hashed and counted, so that a pasted blob costs no more than a sentence
UNKNOWN = 0.5  # the value of "has the last word" in a chat that is not finished

# Odd multipliers of multiplicative hashing in two dimensions: 2^64 over the plastic number and over its square (Roberts
# 2018, "The unreasonable effectiveness of quasirandom sequences").
_MIX = (np.uint64(0xC13FA9A902A6328F), np.uint64(0x91E10DA5C79E7B1D))
_SHIFT = np.uint64(64 - N_BUCKETS.bit_length() + 1)  # keeps the upper bits, as many as a bucket number has

_SIGNS = frozenset({"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk"})  # categories of Unicode
_STOPS, _QUESTIONS, _BRACKETS = ".。", "?？؟", "()"
_COMMAS, _EXCLAMATIONS, _DASHES, _QUOTES = ",，、،", "!！", "-—–", "\"'«»“”„`"
_SKIN_TONES = "".join(map(chr, range(0x1F3FB, 0x1F400)))  # belong to the emoji before them
_NO_OTHER_SIGNS = frozenset(
    _STOPS + _QUESTIONS + _BRACKETS + _COMMAS + _EXCLAMATIONS + _DASHES + _QUOTES + _SKIN_TONES + ":;"
)

# Counts of characters; "letters" is no signal: the others are divided by it + 1.
OF_LETTERS: Mapping[str, Callable[[str], bool]] = {
    "letters": str.isalpha,
    "capitals": str.isupper,
    "digits": str.isdigit,
    "Cyrillic letters": lambda char: "\u0400" <= char <= "\u04ff",
    "Latin letters": lambda char: char < "\u0250" and char.isalpha(),
    "commas": lambda char: char in _COMMAS,
    "full stops": lambda char: char in _STOPS,
    "question marks": lambda char: char in _QUESTIONS,
    "exclamation marks": lambda char: char in _EXCLAMATIONS,
    "brackets as smiles": lambda char: char in _BRACKETS,
    "dashes": lambda char: char in _DASHES,
    "quotation marks": lambda char: char in _QUOTES,
    "other signs": lambda char: category(char) in _SIGNS and char not in _NO_OTHER_SIGNS,
    "emoji": lambda char: category(char) == "So",
}
# Counts of words; as signals, they are divided by the number of words + 1.
OF_WORDS: Mapping[str, Callable[[str], bool]] = {
    "capitalised words": lambda word: word[:1].isupper(),
    "long words": lambda word: len(word) > 8,
}
COUNTS = (*OF_LETTERS, *OF_WORDS)


class Side(NamedTuple):
    """One participant's side of a chat.

    `words` holds the words in normal form, with a `BOUNDARY` before each non-empty message and after the last one;
    `talk` has the columns of `TALK`.
    """

    participant_id: Identifier
    words: list[str]
    talk: list[float]


class Turns:
    """One participant's messages, and what they add up to."""

    def __init__(self, first: int) -> None:
        self.first = self.last = first  # positions in the chat
        self.texts: list[str] = []  # in normal form
        self.words = [BOUNDARY]
        self.replies = self.answered = 0  # number of replies, and of characters they replied to

    def add_up(self) -> None:
        """Prepare what `TALK` needs, after the last message."""
        self.lengths = [*map(len, self.texts)]
        self.mean = sum(self.lengths) / len(self.lengths)
        self.spread = (sum([(length - self.mean) ** 2 for length in self.lengths]) / len(self.lengths)) ** 0.5
        self.starts = "".join([text[:1] for text in self.texts])  # the first characters of all messages
        self.ends = "".join([text[-1:] for text in self.texts])
        self.lowered = [*map(str.lower, self.texts)]
        # words in lower case, without surrounding punctuation; of ")))", ")" is left
        self.bare = [word.strip(".,?!()") or word[0] for word in " ".join(self.words).lower().split()]
        self.vocabulary, self.said = {*self.bare}, {*self.lowered}


class Whole(NamedTuple):
    """What all participants' messages add up to.

    `vocabulary` and `texts`: words and texts, in lower case, that more than one participant wrote.
    """

    messages: int
    characters: int
    vocabulary: Set[str]
    texts: Set[str]
    finished: bool


def _share(counts: Iterable[int], of: Sized) -> float:
    return sum(counts) / (len(of) or 1)


# How a participant takes part in the chat. "messages", "words" and lengths in characters are log1p.
TALK: Mapping[str, Callable[[Turns, Whole], float]] = {
    "opens the chat": lambda own, _: float(own.first == 0),
    "messages": lambda own, _: log1p(len(own.lengths)),
    "share of the messages": lambda own, chat: len(own.lengths) / chat.messages,
    "share of the characters": lambda own, chat: sum(own.lengths) / (chat.characters or 1),
    "words": lambda own, _: log1p(len(own.bare)),
    "mean length of a message": lambda own, _: log1p(own.mean),
    "spread of the lengths": lambda own, _: log1p(own.spread),
    "longest message": lambda own, _: log1p(max(own.lengths)),
    "length of the first message": lambda own, _: log1p(own.lengths[0]),
    "starts with a capital letter": lambda own, _: _share(map(str.isupper, own.starts), own.starts),
    "ends with a full stop": lambda own, _: _share(map(own.ends.count, _STOPS), own.ends),
    "ends with a question mark": lambda own, _: _share(map(own.ends.count, _QUESTIONS), own.ends),
    "ends with a letter": lambda own, _: _share(map(str.isalpha, own.ends), own.ends),
    "ends with a bracket": lambda own, _: _share(map(own.ends.count, _BRACKETS), own.ends),
    "several lines in a message": lambda own, _: _share(["\n" in text for text in own.texts], own.ends),
    "writes twice in a row": lambda own, _: (len(own.lengths) - own.replies - (own.first == 0)) / len(own.lengths),
    "repeats own words": lambda own, _: (len(own.bare) - len(own.vocabulary)) / (len(own.bare) or 1),
    "repeats own messages": lambda own, _: 1 - len(own.said) / len(own.lengths),
    "repeats the other one's words": lambda own, chat: _share(map(chat.vocabulary.__contains__, own.bare), own.bare),
    "repeats the other one's messages": lambda own, chat: _share(map(chat.texts.__contains__, own.lowered), own.texts),
    "reply length relative to the other one's": lambda own, _: (
        log1p(own.mean) - log1p(own.answered / (own.replies or 1))
    ),
    "has the last word": lambda own, chat: float(own.last == chat.messages - 1) if chat.finished else UNKNOWN,
}
_TALK = tuple(TALK.values())


def read_sides(chat: Chat) -> list[Side]:
    """Split a chat into its participants' sides, in the order of their first message."""
    turns: dict[Identifier, Turns] = {}
    before: Turns | None = None
    for position, message in enumerate(chat.messages):
        own = turns.get(message.participant_id)
        if own is None:
            own = turns[message.participant_id] = Turns(position)
        text, words = read_text(message.text)
        own.last = position
        own.texts.append(text)
        if words:
            own.words += words
            own.words.append(BOUNDARY)
        if before is not None and before is not own:
            own.replies += 1
            own.answered += len(before.texts[-1])
        before = own
    for own in turns.values():
        own.add_up()
    whole = Whole(
        messages=len(chat.messages),
        characters=sum([sum(own.lengths) for own in turns.values()]),
        vocabulary=_shared([own.vocabulary for own in turns.values()]),
        texts=_shared([own.said for own in turns.values()]) - {""},
        finished=chat.finished,
    )
    return [Side(who, own.words, [signal(own, whole) for signal in _TALK]) for who, own in turns.items()]


def _shared(sets: Iterable[Set[str]]) -> Set[str]:
    """Return what is in more than one of the sets."""
    seen: set[str] = set()
    shared: set[str] = set()
    for one in sets:
        shared |= seen & one
        seen |= one
    return shared


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
    """Hash each pair of neighbours in a row of word hashes, (words,), as one n-gram.

    Returns (words,): for each word, the bucket of the pair it begins, or `N_BUCKETS` (no n-gram) at the end and where
    two boundaries meet, as at the seam of two sides, whose words follow one another in the row.
    """
    first, second = hashes[:-1], hashes[1:]
    pairs = np.full(len(hashes), N_BUCKETS)
    pairs[:-1] = np.where(first | second, (first * _MIX[0] + second * _MIX[1]) >> _SHIFT, N_BUCKETS)
    return pairs


@lru_cache(maxsize=1 << 12)
def _kinds(char: str) -> tuple[bool, ...]:
    """Return whether a character counts in each of `OF_LETTERS`."""
    return tuple(is_kind(char) for is_kind in OF_LETTERS.values())


def word_counts(word: str) -> list[int]:
    """Count a word and its characters by kind, in the columns of `COUNTS`."""
    of_letters = map(sum, zip(*map(_kinds, word[:LONGEST_WORD]), strict=True))
    return [*of_letters, *(is_kind(word) for is_kind in OF_WORDS.values())]
