"""Decision trees as plain arrays, and a walk over many of them at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .features import Ints


@dataclass(frozen=True)
class Trees:
    """Decision trees as arrays of shape (trees, nodes); a node's left child is the next node.

    `feature`: the number of the signal to compare. `number`: the threshold, or the value of a leaf. `right`: the
    distance to the right child, 0 for a leaf. A row goes right if its signal, as a 32-bit float, exceeds the threshold.
    """

    feature: NDArray[np.uint8]
    number: NDArray[np.float32]
    right: NDArray[np.uint16]


class Forest:
    """Walks all trees for all rows at once, level by level.

    The trees are laid out as complete ones: the nodes of level n are numbered from left to right, through all trees, so
    that node k has the children 2k and 2k + 1 of the next level. A leaf that is not on the last level sends every row
    left.
    """

    def __init__(self, *forests: Trees) -> None:
        levels = max(_depth(trees) for trees in forests)
        parts = [_lay_out(trees, levels) for trees in forests]
        self._levels = [
            (
                np.concatenate([features[n] for features, _, _ in parts]),
                np.concatenate([thresholds[n] for _, thresholds, _ in parts]),
            )
            for n in range(levels)
        ]
        self._value = np.concatenate([values for _, _, values in parts])
        self._roots = np.arange(sum(len(trees.feature) for trees in forests))

    def leaves(self, signals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return each tree's value for each row, (rows, trees)."""
        values = signals.ravel()
        row = np.arange(0, len(values), signals.shape[1])[:, None]
        node = np.empty((len(signals), len(self._roots)), np.intp)
        node[:] = self._roots
        for feature, threshold in self._levels:
            goes_right = values.take(feature.take(node) + row) > threshold.take(node)
            node *= 2
            node += goes_right
        return self._value.take(node)


def _depth(trees: Trees) -> int:
    """Return the length of the longest path from a root to a leaf."""
    level: Ints = np.zeros(trees.feature.shape, np.int64)
    for node in range(trees.right.shape[1] - 1):  # parents come before their children
        inner = trees.right[:, node] > 0
        children = level[inner, node] + 1
        level[inner, node + 1] = children
        level[inner, node + trees.right[inner, node].astype(np.int64)] = children
    return int(level.max())


def _lay_out(
    trees: Trees, levels: int
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the features and the thresholds of each level that compares, and the values of the leaves below."""
    features, thresholds = [], []
    nodes, tree = np.zeros((len(trees.feature), 1), np.int64), np.arange(len(trees.feature))[:, None]
    for _ in range(levels):
        right = trees.right[tree, nodes].astype(np.int64)
        features.append(trees.feature[tree, nodes].ravel())
        thresholds.append(np.where(right == 0, np.float32(np.inf), trees.number[tree, nodes]).ravel())
        nodes = np.stack([nodes + (right > 0), nodes + right], axis=2).reshape(len(tree), -1)
    return features, thresholds, trees.number[tree, nodes].ravel()
