"""Decision trees as plain arrays, and a walk over many of them at once."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .features import Floats


@dataclass(frozen=True)
class Trees:
    """Decision trees as complete ones of the same depth: node k has the children 2k + 1 and 2k + 2.

    `feature` and `threshold`, (trees, 2^depth - 1): a row goes right if this signal, as a 32-bit float, exceeds the
    threshold; where a tree ends earlier, the thresholds are infinite. `leaves`, (trees, 2^depth): the values.
    """

    feature: NDArray[np.uint8]
    threshold: NDArray[np.float32]
    leaves: NDArray[np.float32]

    def depth(self) -> int:
        """Return the number of comparisons on the way to a leaf."""
        return int(self.leaves.shape[1]).bit_length() - 1

    def level(self, depth: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return features and thresholds of all nodes at a depth, from left to right, through all trees."""
        nodes = slice(2**depth - 1, 2 ** (depth + 1) - 1)
        return self.feature[:, nodes].ravel(), self.threshold[:, nodes].ravel()


class Forest:
    """Walks all trees of several forests for all rows at once, level by level.

    Each forest is at least as deep as the one before. The nodes of a level are numbered from left to right, through all
    trees, so that node k has the children 2k and 2k + 1 of the next level.
    """

    def __init__(self, *forests: Trees) -> None:
        self._roots = np.arange(sum(len(trees.leaves) for trees in forests))
        # A stage for each forest: the levels below those of the forests before it, which it shares with the forests
        # after it, then the values of its leaves, and how many trees it has.
        self._stages = []
        for at, (start, end) in enumerate(pairwise([0, *(trees.depth() for trees in forests)])):
            levels = []
            for depth in range(start, end):
                features, thresholds = zip(*(trees.level(depth) for trees in forests[at:]), strict=True)
                levels.append((np.concatenate(features), np.concatenate(thresholds)))
            leaves = forests[at].leaves
            self._stages.append((levels, leaves.ravel().astype(np.float64), len(leaves)))

    def leaves(self, signals: NDArray[np.float32]) -> list[Floats]:
        """Return each tree's value for each row: for each forest, (rows, trees)."""
        values = signals.ravel()
        row = np.arange(0, len(values), signals.shape[1])[:, None]
        node = np.empty((len(signals), len(self._roots)), np.intp)
        node[:] = self._roots
        found = []
        for levels, leaves, trees in self._stages:
            for feature, threshold in levels:
                goes_right = values.take(feature.take(node) + row) > threshold.take(node)
                node += node
                node += goes_right
            found.append(leaves.take(node[:, :trees]))
            node = node[:, trees:] - len(leaves)
        return found
