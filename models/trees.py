"""Decision trees as plain arrays, and a walk over many of them at once."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from .features import Floats, Ints


@dataclass(frozen=True)
class Trees:
    """Decision trees as arrays of shape (trees, nodes); the root is node 0, and parents come before their children.

    `feature`: the number of the signal to compare. `number`: the threshold, or the value of a leaf. `left` and `right`:
    the children, both the node itself for a leaf. A row goes right if its signal, as a 32-bit float, exceeds the
    threshold.
    """

    feature: NDArray[np.uint8]
    number: NDArray[np.float32]
    left: NDArray[np.uint16]
    right: NDArray[np.uint16]


class Forest:
    """Walks all trees of several forests for all rows at once, level by level; deeper forests should come last.

    The trees are laid out as complete ones: the nodes of level n are numbered from left to right, through all trees, so
    that node k has the children 2k and 2k + 1 of the next level. A leaf that is not on the last level sends every row
    left.
    """

    def __init__(self, *forests: Trees) -> None:
        depths = list(accumulate(map(_depth, forests), max))
        parts = [_lay_out(trees, depth) for trees, depth in zip(forests, depths, strict=True)]
        self._roots = np.arange(sum(len(trees.feature) for trees in forests))
        # A stage for each forest: the levels below those of the forests before it, which it shares with the forests
        # after it, then the values of its leaves, and how many trees it has.
        self._stages = []
        for at, (start, end) in enumerate(pairwise([0, *depths])):
            levels = [
                tuple(
                    np.concatenate(of_forests) for of_forests in zip(*(part[0][n] for part in parts[at:]), strict=True)
                )
                for n in range(start, end)
            ]
            self._stages.append((levels, parts[at][1], len(forests[at].feature)))

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


def _depth(trees: Trees) -> int:
    """Return the length of the longest path from a root to a leaf."""
    level: Ints = np.zeros(trees.feature.shape, np.int64)
    for node in range(trees.feature.shape[1]):  # parents come before their children
        for children in (trees.left[:, node], trees.right[:, node]):
            inner = children != node
            level[inner, children[inner]] = level[inner, node] + 1
    return int(level.max())


def _lay_out(trees: Trees, depth: int) -> tuple[list[tuple[NDArray[np.uint8], NDArray[np.float32]]], Floats]:
    """Return the features and the thresholds of each of so many levels, and the values of the leaves below."""
    levels = []
    nodes, tree = np.zeros((len(trees.feature), 1), np.int64), np.arange(len(trees.feature))[:, None]
    for _ in range(depth):
        left, right = (children[tree, nodes].astype(np.int64) for children in (trees.left, trees.right))
        threshold = np.where(left == nodes, np.float32(np.inf), trees.number[tree, nodes])
        levels.append((trees.feature[tree, nodes].ravel(), threshold.ravel()))
        nodes = np.stack([left, right], axis=2).reshape(len(tree), -1)
    return levels, trees.number[tree, nodes].ravel().astype(np.float64)
