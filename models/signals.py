"""From the sides of chats to one row of named signals for each participant, and to what is known of each chat."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .features import COUNTS, STYLE, TALK, Floats, Ints, style

# Scores of the linear models: whether a side's words are those of a bot, or are said to one. One model was fitted on
# the home game's chats ("at home"), one on the chats of all games; each gives both scores.
LINEAR = (
    "says what bots say at home",
    "says what is said to bots at home",
    "says what bots say",
    "says what is said to bots",
)
# Columns of the sums over a side's words and pairs of words; only words add to "words" and `COUNTS`. A squared length
# is the sum of squared inverse document frequencies, and its root normalises the two scores of the same data.
OF_NGRAMS = (*LINEAR, "squared length at home", "squared length")
SUMS = (*OF_NGRAMS, "words", *COUNTS)
# The experts' inputs: the participant's own signals, then those of the other participants.
SIGNALS = (*LINEAR, *STYLE, *(f"the other one: {name}" for name in (*LINEAR, *STYLE)))
# The home expert has trees for each situation: a dialog that goes on, and a complete chat in which nobody writes twice
# in a row, or somebody does.
SITUATIONS = ("running dialog", "strict turn-taking", "free turn-taking")
RUNNING_DIALOG, STRICT, FREE = range(len(SITUATIONS))
# Inputs of the gate, which decides how much the home expert has to say in a chat; "messages" is log1p of their number.
GATE = ("share of Cyrillic letters", "share of Latin letters", "messages", "writes twice in a row")


def _columns(names: Sequence[str], first: str, last: str) -> slice:
    """Return the columns from the first name to the last one."""
    return slice(names.index(first), names.index(last) + 1)


def mean_of_others(values: Floats, sizes: Ints) -> Floats:
    """Return, for each side, the mean of the other sides of its chat; zeros for a participant who is alone.

    `values`, (sides,) or (sides, columns), has a row for each side, chats one after the other; `sizes` (chats,) is the
    number of sides in each.
    """
    totals = np.add.reduceat(values, np.cumsum(sizes) - sizes).repeat(sizes, axis=0)
    others = np.maximum(sizes - 1, 1).repeat(sizes)
    return np.asarray(((totals - values).T / others).T)  # by rows, whether or not there are columns


_LINEAR, _SQUARED = _columns(SUMS, LINEAR[0], LINEAR[-1]), _columns(SUMS, "squared length at home", "squared length")
_COUNTS = _columns(SUMS, COUNTS[0], COUNTS[-1])


def combine(sums: Floats, talk: Floats, sizes: Ints) -> Floats:
    """Return the signals, (sides, len(SIGNALS)): each side's own beside the mean of those of the others of its chat.

    `sums` (sides, len(SUMS)) and `talk` (sides, len(TALK)) describe the sides of all chats; `sizes` (chats,) is the
    number of sides in each.
    """
    lengths = np.sqrt(sums[:, _SQUARED] + 1).repeat(2, axis=1)  # home, home, all games, all games: as `LINEAR`
    own = np.concatenate([sums[:, _LINEAR] / lengths, style(sums[:, _COUNTS], talk)], axis=1)
    return np.concatenate([own, mean_of_others(own, sizes)], axis=1)


_ALPHABETS = _columns(SUMS, "Cyrillic letters", "Latin letters")
_LETTERS = _columns(SUMS, "letters", "letters")  # a slice, so that the sums keep both dimensions
_WORDS = SUMS.index("words")
_LOG_MESSAGES, _TWICE = TALK.index("messages"), TALK.index("writes twice in a row")


def describe(sums: Floats, talk: Floats, sizes: Ints) -> tuple[Floats, Floats]:
    """Return the gate's inputs, (chats, len(GATE)), and the number of words that count, (chats,).

    The arguments are those of `combine`. The training data holds no other alphabets than Cyrillic and Latin: words
    count by the square of the share that these two have in the letters; half of the letters leave a quarter.
    """
    start = np.cumsum(sizes) - sizes
    totals = np.add.reduceat(sums, start)
    share = totals[:, _ALPHABETS] / np.maximum(totals[:, _LETTERS], 1)
    messages = np.log1p(np.add.reduceat(np.expm1(talk[:, _LOG_MESSAGES]), start))
    twice = np.maximum.reduceat(talk[:, _TWICE], start)
    gate_inputs = np.concatenate([share, messages[:, None], twice[:, None]], axis=1)
    return gate_inputs, totals[:, _WORDS] * share.sum(axis=1) ** 2


def situations(gate_inputs: Floats, running: NDArray[np.bool_]) -> Ints:
    """Return each chat's number in `SITUATIONS`, (chats,); `gate_inputs` is as `describe` returns it."""
    twice = gate_inputs[:, GATE.index("writes twice in a row")]
    return np.where(running, RUNNING_DIALOG, np.where(twice == 0, STRICT, FREE))
