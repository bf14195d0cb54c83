"""Which samples of a split are looked at, and how they are cut into chunks.

A chunk is the atom of the work: its samples and its seeds depend on the selection alone, never on who computes it, so the
number of actors can't change a result.

n: the selected samples; B: those of a chunk.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glr_dist.data.source import DataSource, check_split
from glr_dist.errors import UserError
from glr_dist.seeds import Purpose, permutation, seed_of

CHUNK = 100  # samples

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How samples are chosen from a split: so many by a permutation that the seed gives, or all of them (None)."""

    split: str = "test"
    count: int | None = None
    seed: int = 0

    def of(self, data: DataSource) -> Indices:
        """The chosen samples' positions in the split's stored order, sorted: [n].

        Raises:
            UserError: for an unknown split, one without rows, or a count outside its rows.
        """
        check_split(self.split)
        rows = data.count(self.split)
        if not rows:
            raise UserError(f"--split {self.split}: {data.name} has no such rows; choose another split")
        if self.count is None:
            return np.arange(rows)
        if not 1 <= self.count <= rows:
            raise UserError(
                f"--count {self.count}: {data.name} has {rows} {self.split} samples; give 1 to {rows}, or leave it out"
            )
        return np.sort(permutation(rows, self.seed, Purpose.SELECTION)[: self.count])


@dataclass(frozen=True)
class Chunk:
    """Some of the selected samples."""

    number: int  # the chunk's place among those of its size
    start: int  # its first sample's place in the selection
    indices: Indices  # [B] the samples' positions in the split


def chunks(indices: Indices, size: int = CHUNK) -> Iterator[Chunk]:
    """A selection's samples, ``size`` at a time; only the last chunk is smaller."""
    for number, start in enumerate(range(0, len(indices), size)):
        yield Chunk(number, start, indices[start : start + size])


def chunk_seed(seed: int, what: str, chunk: Chunk) -> np.random.SeedSequence:
    """The seed of one attack on one chunk; ``what`` tells all that makes the attack another one, as text."""
    return seed_of(seed, Purpose.ATTACK, zlib.crc32(what.encode()), chunk.number)


def rows_at(data: DataSource, split: str, indices: Indices) -> tuple[Tensor, Tensor]:
    """The samples at sorted positions [B] of a split's stored order: fresh float32 [B, ...] and int64 labels [B]."""
    starts = np.cumsum((0, *data.sizes(split)))
    shards = np.searchsorted(starts, indices, side="right") - 1
    pieces = [data.rows(split, int(shard), indices[shards == shard] - starts[shard]) for shard in np.unique(shards)]
    features, labels = zip(*pieces, strict=True)
    return torch.cat(features), torch.cat(labels)
