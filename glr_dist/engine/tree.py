"""Sums along one fixed binary tree over the blocks of a step.

Floating-point sums depend on their order. All that is added up over blocks is added along this tree, so whoever holds all
blocks below a node may add them up, and the total has the same bits whoever did.

A node is (first, end): the blocks from ``first`` up to, but without, ``end``. The root is (0, B), block b's leaf (b, b + 1).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Node = tuple[int, int]


def leaf(block: int) -> Node:
    """The node of one block."""
    return block, block + 1


def halves(node: Node) -> tuple[Node, Node]:
    """The two nodes below one that is no leaf; the left one's blocks are the largest power of two that leaves some."""
    first, end = node
    middle = first + (1 << ((end - first - 1).bit_length() - 1))
    return (first, middle), (middle, end)


def subtrees(first: int, end: int, blocks: int) -> list[Node]:
    """The largest whole subtrees of the tree over ``blocks`` blocks that make up the blocks from ``first`` to ``end``."""

    def within(node: Node) -> list[Node]:
        if node[1] <= first or end <= node[0]:
            return []
        if first <= node[0] and node[1] <= end:
            return [node]
        left, right = halves(node)
        return within(left) + within(right)

    return within((0, blocks)) if blocks else []


class TreeSum:
    """What has been added up so far: the sums of the largest whole subtrees that are in."""

    def __init__(self, blocks: int) -> None:
        """Nothing yet, of so many blocks."""
        self.root: Node = (0, blocks)
        self.sums: dict[Node, np.ndarray] = {}
        self._family = _family(blocks)

    def put(self, node: Node, values: np.ndarray) -> None:
        """Take in a node's sum, [D]; each once. What can be written to may be changed in place later."""
        while node != self.root:
            parent, sibling = self._family[node]
            other = self.sums.pop(sibling, None)
            if other is None:
                break
            left, right = (values, other) if node < sibling else (other, values)
            values = np.add(left, right, out=left if left.flags.writeable else None)
            node = parent
        self.sums[node] = values

    def total(self) -> np.ndarray:
        """The sum over all blocks, when all are in; an array that may be written to."""
        values = self.sums[self.root]
        return values if values.flags.writeable else values.copy()


@lru_cache(maxsize=16)
def _family(blocks: int) -> dict[Node, tuple[Node, Node]]:
    """Of each node but the root: the node above it, and the other one below that."""
    found: dict[Node, tuple[Node, Node]] = {}

    def down(node: Node) -> None:
        if node[1] - node[0] > 1:
            left, right = halves(node)
            found[left], found[right] = (node, right), (node, left)
            down(left)
            down(right)

    down((0, blocks))
    return found
