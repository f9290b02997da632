"""The weights of hashed n-grams, and their sums over the words of a chat."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, islice

import numpy as np
from numpy.typing import NDArray

from .features import BOUNDARY, LONGEST_WORD, Floats, Side, pair_ngrams, word_counts, word_hash, word_ngrams
from .signals import OF_NGRAMS, SUMS

CACHED_WORDS = 1 << 15
CHUNK = 1 << 13  # words that are looked up before room may be made in the cache; no message has more


class Ngrams:
    """Sums what n-grams and words add to the columns of `SUMS`; what a word adds is cached.

    `weights`, shape (N_BUCKETS + 1, len(OF_NGRAMS)): what an n-gram adds; the last row stands for no n-gram. One thread
    at a time may use the cache; several objects can share the weights.
    """

    def __init__(self, weights: Floats, cached_words: int = CACHED_WORDS) -> None:
        self.weights = np.ascontiguousarray(weights)  # or each `take` would copy all of them
        self._cached_words = cached_words
        self._values = np.zeros((cached_words, len(SUMS)))
        self._hashes = np.zeros(cached_words, np.uint64)
        self._rows: dict[str, int] = {BOUNDARY: 0}  # which adds nothing and has the hash 0 (`word_hash`)

    def sums(self, sides: Sequence[Side]) -> Floats:
        """Return the columns of `SUMS` for each side, (sides, len(SUMS)), from its words and pairs of words."""
        words = [word for side in sides for word in side.words]
        first = [0, *accumulate(len(side.words) for side in sides[:-1])]
        sums = np.zeros((len(sides), len(SUMS)))
        hashes = np.empty(len(words), np.uint64)
        for start in range(0, len(words), CHUNK):
            end = start + CHUNK
            values, hashes[start:end] = self.look_up(words[start:end])
            here = slice(bisect_right(first, start) - 1, bisect_left(first, end))  # the first may have begun before
            sums[here] += np.add.reduceat(values, [max(at - start, 0) for at in first[here]])
        pairs = pair_ngrams(hashes)
        sums[:, : len(OF_NGRAMS)] += np.add.reduceat(self.weights.take(pairs, axis=0), first)
        return sums

    def look_up(self, words: Sequence[str]) -> tuple[Floats, NDArray[np.uint64]]:
        """Return what each of at most `CHUNK` words adds to `SUMS`, (words, len(SUMS)), and the hashes, (words,)."""
        if len(self._rows) + len(words) > self._cached_words:
            # forget the later half: those that were seen first are the frequent ones for the most part
            self._rows = dict(islice(self._rows.items(), self._cached_words // 2))
        rows = [self._rows[word] if word in self._rows else self._add(word) for word in words]
        return self._values.take(rows, axis=0), self._hashes.take(rows)

    def _add(self, word: str) -> int:
        """Return the cache's row for a word, which holds what the word adds to `SUMS`, and its hash."""
        key = word[:LONGEST_WORD]
        if key in self._rows:
            return self._rows[key]
        row = self._rows[key] = len(self._rows)
        self._values[row] = [*self.weights[word_ngrams(word)].sum(axis=0), *word_counts(word)]
        self._hashes[row] = word_hash(word)
        return row
