"""Batches: which rows make up which step, from (seed, epoch) alone.

A batch is made of *blocks*: `rows` examples of one training shard, so that whoever holds the shard can evaluate the block.
In every epoch each shard's rows are permuted and cut into whole blocks (the last few rows of a shard sit that epoch
out), and the blocks of all shards are permuted; consecutive blocks make consecutive batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from glr_dist.errors import UserError
from glr_dist.seeds import Purpose, permutation


@dataclass(frozen=True)
class Block:
    """`rows` examples of one training shard in one epoch: the rows axis of a work unit.

    Attributes:
        epoch: from 0.
        shard: its number.
        index: which of the shard's blocks in that epoch.
    """

    epoch: int
    shard: int
    index: int


class BlockSchedule:
    """The blocks of every step, as a pure function of (seed, step)."""

    def __init__(self, sizes: Sequence[int], *, batch: int, rows: int, seed: int) -> None:
        """Plan batches of ``batch`` examples in blocks of ``rows``, from shards of so many training rows (``sizes``).

        Raises:
            UserError: ``rows`` does not divide ``batch``, or the data don't give one batch an epoch.
        """
        if batch < 1:
            raise UserError(f"batch = {batch}: must be at least 1")
        if rows < 1 or batch % rows:
            raise UserError(f"units.rows = {rows}: must divide batch = {batch}")
        self.sizes = tuple(sizes)
        self.rows = rows
        self.seed = seed
        self.blocks_per_step = batch // rows
        blocks = sum(size // rows for size in sizes)
        self.steps_per_epoch = blocks // self.blocks_per_step
        if not self.steps_per_epoch:
            raise UserError(
                f"batch = {batch}: {sum(sizes)} training rows in {len(self.sizes)} shards give {blocks} blocks of"
                f" units.rows = {rows}, a batch needs {self.blocks_per_step}; lower batch, units.rows or data.shards"
            )

    def blocks(self, step: int) -> list[Block]:
        """The blocks of a step, counted from 0, in their fixed order."""
        epoch, position = divmod(step, self.steps_per_epoch)
        first = position * self.blocks_per_step
        order = _block_order(self.sizes, self.rows, self.seed, epoch)
        return [Block(epoch, shard, index) for shard, index in order[first : first + self.blocks_per_step]]

    def step_of(self, block: Block) -> int:
        """The step that a block belongs to."""
        position = _block_places(self.sizes, self.rows, self.seed, block.epoch)[block.shard, block.index]
        return block.epoch * self.steps_per_epoch + position // self.blocks_per_step

    def row_numbers(self, block: Block) -> np.ndarray:
        """The block's rows within its shard's training rows, int64 [rows]."""
        order = _row_order(self.sizes[block.shard], self.seed, block.epoch, block.shard)
        return order[block.index * self.rows : (block.index + 1) * self.rows]


@lru_cache(maxsize=4)
def _block_order(sizes: tuple[int, ...], rows: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    blocks = [(shard, index) for shard, size in enumerate(sizes) for index in range(size // rows)]
    return [blocks[i] for i in permutation(len(blocks), seed, Purpose.ORDER, epoch)]


@lru_cache(maxsize=4)
def _block_places(sizes: tuple[int, ...], rows: int, seed: int, epoch: int) -> dict[tuple[int, int], int]:
    return {block: place for place, block in enumerate(_block_order(sizes, rows, seed, epoch))}


@lru_cache(maxsize=256)
def _row_order(size: int, seed: int, epoch: int, shard: int) -> np.ndarray:
    return permutation(size, seed, Purpose.ORDER, epoch, shard + 1)
