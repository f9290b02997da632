"""Decision trees as plain arrays, and a walk over many of them at once."""

from dataclasses import dataclass

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


class Forest:
    """Walks all trees of several forests for all rows at once, level by level.

    Each forest is deeper than the one before. The nodes of a level are numbered from left to right, through all
    trees, so that node k has the children 2k and 2k + 1 of the next level.
    """

    def __init__(self, *forests: Trees) -> None:
        self._roots = np.arange(sum(len(trees.leaves) for trees in forests))
        self._levels = []
        for depth in range(forests[-1].depth()):
            nodes = np.s_[:, 2**depth - 1 : 2 ** (depth + 1) - 1]
            deeper = [trees for trees in forests if trees.depth() > depth]
            feature = np.concatenate([trees.feature[nodes].ravel() for trees in deeper])
            threshold = np.concatenate([trees.threshold[nodes].ravel() for trees in deeper])
            self._levels.append((feature, threshold))
        self._leaves = {trees.depth(): trees.leaves.astype(np.float64) for trees in forests}

    def leaves(self, signals: NDArray[np.float32]) -> list[Floats]:
        """Return each tree's value for each row: for each forest, (rows, trees)."""
        values = signals.ravel()
        row = np.arange(0, len(values), signals.shape[1])[:, None]
        node = np.empty((len(signals), len(self._roots)), np.intp)
        node[:] = self._roots
        found = []
        for depth, (feature, threshold) in enumerate(self._levels, start=1):
            goes_right = values.take(feature.take(node) + row) > threshold.take(node)
            node += node
            node += goes_right
            if depth in self._leaves:
                leaves = self._leaves[depth]
                found.append(leaves.take(node[:, : len(leaves)]))
                node = node[:, len(leaves) :] - leaves.size
        return found
