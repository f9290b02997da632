"""From a chat to numbers, the one path that training and serving share.

Everything said is cut into tokens (words and pairs of neighbouring words), and all that is known of a text is a sum
over its tokens. So a token is looked at once and cached, a participant's words are summed once and used for both sides
(one's own words are the other one's "others' words"), and no text needs to be stored: tokens are hashed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import log1p
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from models.chat import Chat, Identifier, Message

N_BUCKETS = 1 << 17  # hashed n-grams of one side of the chat; weights of both sides fit the artifact's 5 MB
MAX_NGRAM = 4  # characters; longer ones did not pay in cross-validation
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
_QUOTES = frozenset("\"'«»“”„`")
_DASHES = frozenset("-—–")
_SMALL = frozenset(".,?!()-—–\"'«»“”„`:;")


@dataclass(frozen=True, slots=True)
class Side:
    """One participant's side of a chat: the words and what was done with them.

    `words` are the words as written, `pairs` neighbouring words in lower case, `talk` has the columns of `TALK`.
    """

    participant_id: Identifier
    words: list[str]
    pairs: list[str]
    talk: list[float]


@lru_cache(maxsize=1 << 15)
def word_ngrams(word: str) -> NDArray[np.int64]:
    """Hash a word's character n-grams (1 to `MAX_NGRAM`, padded with a space at both ends) and the word itself.

    Returns buckets below `N_BUCKETS`, shape (n-grams,). The scheme is that of scikit-learn's `char_wb` analyzer; the
    hash is CRC-32, which is the same on every machine.
    """
    padded = f" {word[:LONGEST_WORD].lower()} "
    grams = [padded[i : i + n] for n in range(1, MAX_NGRAM + 1) for i in range(len(padded) - n + 1)]
    grams.append(f"w{padded}")
    return np.array([crc32(gram.encode("utf-8", "surrogatepass")) % N_BUCKETS for gram in grams], dtype=np.int64)


def pair_ngrams(pair: str) -> NDArray[np.int64]:
    """Hash two neighbouring words as one n-gram; returns its bucket, shape (1,)."""
    return np.array([crc32(f"p{pair}".encode("utf-8", "surrogatepass")) % N_BUCKETS], dtype=np.int64)


@lru_cache(maxsize=1 << 15)
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


def read_sides(chat: Chat) -> list[Side]:
    """Split a chat into its participants' sides, in the order of their first message."""
    turns: dict[Identifier, list[tuple[int, Message, list[str]]]] = {}
    for position, message in enumerate(chat.messages):
        turns.setdefault(message.participant_id, []).append((position, message, message.text.split()))
    said = {
        participant: [word.lower().strip(".,?!()") for _, _, words in own for word in words]
        for participant, own in turns.items()
    }
    return [_read_side(chat.messages, participant, own, said) for participant, own in turns.items()]


def _read_side(
    messages: Sequence[Message],
    participant: Identifier,
    turns: list[tuple[int, Message, list[str]]],
    said: dict[Identifier, list[str]],
) -> Side:
    texts = [message.text.strip() for _, message, _ in turns]
    spoken = [text for text in texts if text] or [""]
    lengths = [len(text) for text in texts]
    n_turns, n_chars = len(turns), sum(lengths)
    mean = n_chars / n_turns
    own_words = said[participant]
    vocabulary = set(own_words)
    others_vocabulary = {word for other, words in said.items() if other != participant for word in words}
    lowered = [text.lower() for text in texts]
    others_texts = {
        message.text.strip().lower() for message in messages if message.participant_id != participant and message.text
    }
    before = [messages[position - 1] for position, _, _ in turns if position]
    replies = [message for message in before if message.participant_id != participant]
    replied = sum(len(message.text) for message in replies)
    all_chars = sum(len(message.text) for message in messages)
    talk = [
        float(turns[0][0] == 0),
        log1p(n_turns),
        n_turns / len(messages),
        n_chars / (all_chars or 1),
        log1p(len(own_words)),
        log1p(mean),
        log1p((sum((length - mean) ** 2 for length in lengths) / n_turns) ** 0.5),
        log1p(max(lengths)),
        len(own_words) / n_turns,
        log1p(lengths[0]),
        sum(text[:1].isupper() for text in spoken) / len(spoken),
        sum(text.endswith(".") for text in spoken) / len(spoken),
        sum(text.endswith("?") for text in spoken) / len(spoken),
        sum(text[-1:].isalpha() for text in spoken) / len(spoken),
        sum(text.endswith((")", "(")) for text in spoken) / len(spoken),
        sum("\n" in text for text in spoken) / len(spoken),
        (len(before) - len(replies)) / n_turns,
        1 - len(vocabulary) / (len(own_words) or 1),
        1 - len(set(lowered)) / n_turns,
        sum(word in others_vocabulary for word in own_words) / (len(own_words) or 1),
        sum(text in others_texts for text in lowered) / n_turns,
        log1p(mean) - log1p(replied / (len(replies) or 1)),
        lengths.count(0) / n_turns,
        float(turns[-1][0] == len(messages) - 1),
    ]
    words = [word for _, _, of_turn in turns for word in of_turn]
    pairs = [
        f"{first} {second}".lower()
        for _, _, of_turn in turns
        for first, second in pairwise(["^", *of_turn, "$"] if of_turn else ())
    ]
    return Side(participant, words, pairs, talk)


def style(counts: NDArray[np.float64], talk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Join counts and talk of one side to its style features.

    `counts` (sides, len(COUNTS)) are sums over the words, `talk` is (sides, len(TALK)); returns
    (sides, len(STYLE)): counts for each letter (for each word, where words are counted), then the talk.
    """
    letters = counts[:, :1] + 1
    words = np.expm1(talk[:, TALK.index("words")])[:, None] + 1
    return np.concatenate([counts[:, 1:-2] / letters, counts[:, -2:] / words, talk], axis=1)


STYLE = (*COUNTS[1:], *TALK)
