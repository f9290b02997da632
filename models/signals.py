"""From the sides of chats to one row of named signals for each participant."""

import numpy as np

from .features import COUNTS, OF_LETTERS, TALK, Floats, Ints

# Scores of the linear model: whether a side's words are those of a bot, or are said to one.
LINEAR = ("says what bots say", "says what is said to bots")
# Columns of the sums over a side's words and pairs of words; only words add to `COUNTS`. The squared length is the sum
# of squared inverse document frequencies, and the root of it + 1 normalises the two scores.
OF_NGRAMS = (*LINEAR, "squared length")
SUMS = (*OF_NGRAMS, *COUNTS)
OWN = (*LINEAR, *COUNTS[1:], *TALK)
OTHER = "the other one: "  # begins the names of the signals that describe the other participants
# The inputs of the trees: the participant's own signals, then the mean of those of the other participants.
SIGNALS = (*OWN, *(OTHER + name for name in OWN))
_LOG_WORDS = list(TALK).index("words")


def mean_of_others(values: Floats, sizes: Ints) -> Floats:
    """Return, for each side, the mean of the other sides of its chat; zeros for a participant who is alone.

    `values`, (sides,) or (sides, columns), has a row for each side, chats one after the other; `sizes` (chats,) is the
    number of sides in each.
    """
    totals = np.add.reduceat(values, np.cumsum(sizes) - sizes).repeat(sizes, axis=0)
    others = np.maximum(sizes - 1, 1).repeat(sizes)
    return np.asarray(((totals - values).T / others).T)  # by rows, whether or not there are columns


def combine(sums: Floats, talk: Floats, sizes: Ints) -> Floats:
    """Return the signals, (sides, len(SIGNALS)): each side's own beside the mean of those of the others of its chat.

    `sums` (sides, len(SUMS)) and `talk` (sides, len(TALK)) describe the sides of all chats; `sizes` (chats,) is the
    number of sides in each.
    """
    scores, squared_length, counts = sums[:, : len(LINEAR)], sums[:, len(LINEAR), None], sums[:, len(OF_NGRAMS) :]
    letters, of_letters, of_words = counts[:, :1], counts[:, 1 : len(OF_LETTERS)], counts[:, len(OF_LETTERS) :]
    words = np.expm1(talk[:, _LOG_WORDS, None])
    parts = [scores / np.sqrt(squared_length + 1), of_letters / (letters + 1), of_words / (words + 1), talk]
    own = np.concatenate(parts, axis=1)
    return np.concatenate([own, mean_of_others(own, sizes)], axis=1)
