"""One order of addition, whoever adds up what."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from glr_dist.engine.tree import TreeSum, halves, leaf, subtrees


def by_hand(values: list[np.ndarray]) -> np.ndarray:
    """The tree's sum, written as a recursion over lists."""
    if len(values) == 1:
        return values[0]
    left = 1
    while 2 * left < len(values):
        left *= 2
    return by_hand(values[:left]) + by_hand(values[left:])


def test_the_tree_of_six_blocks() -> None:
    assert halves((0, 6)) == ((0, 4), (4, 6))
    assert subtrees(0, 6, 6) == [(0, 6)]
    assert subtrees(1, 5, 6) == [(1, 2), (2, 4), (4, 5)]
    assert subtrees(2, 6, 6) == [(2, 4), (4, 6)]


@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 8, 13])
def test_every_cut_and_order_gives_the_same_bits(blocks: int) -> None:
    rng = np.random.default_rng(blocks)
    values = [rng.standard_normal(500).astype(np.float32) for _ in range(blocks)]
    expected = by_hand(values)
    if blocks > 3:
        one_by_one = sum(values[1:], values[0])
        assert (one_by_one != expected).any()  # so that equal bits below are no accident
    for cut in itertools.combinations(range(1, blocks), min(2, blocks - 1)):
        whole, parts = TreeSum(blocks), []
        for first, end in itertools.pairwise((0, *cut, blocks)):
            share = TreeSum(blocks)
            for block in range(first, end):
                share.put(leaf(block), values[block].copy())
            assert sorted(share.sums) == subtrees(first, end, blocks)
            parts += list(share.sums.items())
        random.Random(len(cut)).shuffle(parts)
        for node, sum_ in parts:
            whole.put(node, sum_)
        assert np.array_equal(whole.total(), expected)


def test_what_may_not_be_written_to_is_left_alone() -> None:
    sums, values = TreeSum(2), [np.ones(3, np.float32), np.ones(3, np.float32)]
    for value in values:
        value.flags.writeable = False
    for block, value in enumerate(values):
        sums.put(leaf(block), value)
    assert sums.total().tolist() == [2, 2, 2]
    assert values[0].tolist() == [1, 1, 1]
    sums.total()[0] = 5
    alone = TreeSum(1)
    alone.put((0, 1), values[0])
    alone.total()[0] = 7
    assert values[0].tolist() == [1, 1, 1]
