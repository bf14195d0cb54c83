"""Batches: from (seed, step) alone; every row at most once an epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glr_dist.data.batches import Block, BlockSchedule
from glr_dist.errors import UserError

PINNED = [(2, 5), (2, 21), (2, 15), (2, 29), (2, 22), (2, 4), (2, 17), (2, 1)]


def plan(seed: int = 0, sizes: tuple[int, ...] = (20, 13, 32), batch: int = 8, rows: int = 4) -> BlockSchedule:
    return BlockSchedule(sizes, batch=batch, rows=rows, seed=seed)


def rows_of(schedule: BlockSchedule, step: int) -> list[tuple[int, int]]:
    """(shard, row) of every example of a step."""
    return [(b.shard, int(row)) for b in schedule.blocks(step) for row in schedule.row_numbers(b)]


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    rows=st.integers(1, 8),
    blocks=st.integers(1, 5),
    seed=st.integers(0, 2**62),
)
def test_in_every_epoch_each_row_comes_at_most_once(sizes: list[int], rows: int, blocks: int, seed: int) -> None:
    whole = sum(size // rows for size in sizes)
    if whole < blocks:
        with pytest.raises(UserError, match=f"give {whole} blocks of units.rows = {rows}, a batch needs {blocks}"):
            BlockSchedule(sizes, batch=blocks * rows, rows=rows, seed=seed)
        return
    schedule = BlockSchedule(sizes, batch=blocks * rows, rows=rows, seed=seed)
    assert schedule.steps_per_epoch == whole // blocks
    for epoch in (0, 1, 7):
        first = epoch * schedule.steps_per_epoch
        steps = range(first, first + schedule.steps_per_epoch)
        seen = Counter(pair for step in steps for pair in rows_of(schedule, step))
        assert set(seen.values()) == {1}
        assert len(seen) == len(steps) * blocks * rows  # less than a batch and a shard's last rows sit out
        assert all(0 <= row < sizes[shard] for shard, row in seen)
        assert {block.epoch for step in steps for block in schedule.blocks(step)} == {epoch}


def test_an_epoch_of_whole_batches_covers_every_row() -> None:
    schedule = plan(sizes=(12, 20))
    assert schedule.steps_per_epoch == 4
    for epoch in range(3):
        seen = {pair for step in range(4 * epoch, 4 * epoch + 4) for pair in rows_of(schedule, step)}
        assert seen == {(0, row) for row in range(12)} | {(1, row) for row in range(20)}


def test_rows_that_sit_out_change_from_epoch_to_epoch() -> None:
    schedule = plan(sizes=(7,), batch=4)  # 3 of 7 rows sit out
    seen = {pair for step in range(20) for pair in rows_of(schedule, step)}
    assert seen == {(0, row) for row in range(7)}


def test_a_step_is_a_function_of_seed_and_step_alone() -> None:
    schedule = plan()
    far = rows_of(plan(), 1001)  # nothing was asked of this one before
    forwards = [rows_of(schedule, step) for step in range(30)]
    backwards = [rows_of(schedule, step) for step in reversed(range(30))][::-1]
    assert forwards == backwards
    assert rows_of(schedule, 1001) == far
    assert [rows_of(plan(seed=1), step) for step in range(30)] != forwards


def test_seed_and_epoch_change_rows_and_blocks() -> None:
    epoch = plan().steps_per_epoch
    assert [(b.shard, b.index) for b in plan().blocks(0)] != [(b.shard, b.index) for b in plan().blocks(epoch)]
    same = [(Block(0, 2, 3), plan()), (Block(1, 2, 3), plan()), (Block(0, 2, 3), plan(seed=1))]
    orders = {tuple(schedule.row_numbers(block).tolist()) for block, schedule in same}
    assert len(orders) == 3
    # two shards of one size are not permuted alike, nor are shards and blocks
    twins = plan(sizes=(32, 32))
    first, second = (np.concatenate([twins.row_numbers(Block(0, shard, i)) for i in range(8)]) for shard in (0, 1))
    assert first.tolist() != second.tolist()
    assert sorted(first) == sorted(second) == list(range(32))


def test_every_position_is_reached_alike() -> None:
    """Which step of its epoch a row comes in is uniform: 16 rows, 4 steps, 2000 epochs."""
    schedule = plan(sizes=(8, 8), batch=4, rows=2)
    counts = np.zeros((4, 16))
    for step in range(4 * 2000):
        for shard, row in rows_of(schedule, step):
            counts[step % 4, 8 * shard + row] += 1
    assert counts.sum() == 16 * 2000
    # each count is binomial(2000, 1/4): standard deviation 19.4; 5 of them over 64 counts
    assert np.abs(counts - 500).max() < 5 * 19.4


def test_the_order_is_pinned_so_that_no_upgrade_moves_a_row() -> None:
    assert rows_of(plan(seed=5), 0) == PINNED


@pytest.mark.parametrize(
    ("batch", "rows", "message"),
    [
        (0, 4, "batch = 0: must be at least 1"),
        (8, 3, "units.rows = 3: must divide batch = 8"),
        (8, 0, "units.rows = 0: must divide batch = 8"),
        (128, 64, "batch = 128: 65 training rows in 3 shards give 0 blocks of units.rows = 64, a batch needs 2"),
        (128, 4, "give 16 blocks of units.rows = 4, a batch needs 32; lower batch, units.rows or data.shards"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(batch: int, rows: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(batch=batch, rows=rows)
