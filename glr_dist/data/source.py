"""What the engine asks of any data set, and the rules that every data set shares.

Rows live in shards; a row is named by (split, shard, row in that split of that shard). "train" and
"validation" are cut from the same training shards, "test" has shards of its own. B rows, feature shape [...]
(images: [C, H, W]).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from glr_dist.errors import UserError, nearest
from glr_dist.seeds import permutation

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "validation", "test")
_HOLD_OUT_SEED = 0
_SPREAD_SEED = 1


class DataSource(Protocol):
    """A data set as the engine sees it: `Dataset` (Parquet shards) and `ArrayDataset` (the user's arrays)."""

    @property
    def name(self) -> str:
        """What the data set is called."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The feature shape of one row."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; label i means classes[i]."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the whole content."""

    def sizes(self, split: str) -> tuple[int, ...]:
        """The rows of each shard for `split`; () when there is no such split."""

    def count(self, split: str) -> int:
        """All rows of `split`."""

    def rows(self, split: str, shard: int, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Fresh float32 features [B, ...] and int64 labels [B] of the rows `index` [B] of one shard."""

    def batches(self, split: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows in stored order, `size` at a time; only the last batch is smaller."""


def check_split(split: str) -> None:
    """Refuse a split that is none of train, validation, test.

    Args:
        split: the name to check.

    Raises:
        UserError: when it is no split's name.
    """
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}: {nearest(split, SPLITS)}")


def spread(rows: int, shards: int) -> list[NDArray[np.int64]]:
    """Deal a split's rows out to its shards at random, so that each is a fair sample; always in the same way.

    Args:
        rows: rows of the split.
        shards: number of shards.

    Returns:
        For each shard its rows; sizes differ by at most 1.
    """
    return np.array_split(permutation(rows, _SPREAD_SEED), shards)


def hold_out(rows: int, share: float, shard: int) -> dict[str, NDArray[np.int64]]:
    """Cut one training shard into its train and validation rows; the same for every run.

    Args:
        rows: rows of the shard.
        share: the part held out, in [0, 1).
        shard: the shard's number.

    Returns:
        "train" and "validation": the sorted row numbers of each; together they are all rows once.
    """
    order = permutation(rows, _HOLD_OUT_SEED, shard)
    held = held_out_rows(rows, share)
    return {"validation": np.sort(order[:held]), "train": np.sort(order[held:])}


def held_out_rows(rows: int, share: float) -> int:
    """How many of a shard's rows `hold_out` puts into validation.

    Args:
        rows: rows of the shard.
        share: the part held out, in [0, 1).

    Returns:
        share * rows, rounded.
    """
    return round(share * rows)


def split_sizes(counts: dict[str, tuple[int, ...]], share: float, split: str) -> tuple[int, ...]:
    """The rows of each shard for `split`, from the stored shards' counts and the validation share.

    Args:
        counts: rows of each stored shard, by "train" and perhaps "test".
        share: the part of each training shard held out.
        split: train, validation or test.

    Returns:
        One number a shard; () when there is no such split.
    """
    check_split(split)
    if split == "test":
        return counts.get("test", ())
    held = tuple(held_out_rows(n, share) for n in counts["train"])
    if split == "validation":
        return held if any(held) else ()
    return tuple(n - h for n, h in zip(counts["train"], held, strict=True))


def shards_for(rows: int, train_rows: int, shards: int) -> int:
    """The number of shards of a split beside `shards` training shards: in proportion to its rows, rounded up.

    Args:
        rows: rows of the split.
        train_rows: rows of the training split.
        shards: number of training shards.

    Returns:
        At least 1 and at most `rows`.
    """
    return min(rows, -(-shards * rows // train_rows))


def in_stored_order(source: DataSource, split: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Walk through a split shard after shard, in batches that may span shards.

    Args:
        source: the data set.
        split: train, validation or test.
        size: rows a batch; only the last one is smaller.

    Yields:
        Fresh float32 features [B, ...] and int64 labels [B].
    """
    assert size > 0, size
    import torch

    sizes = source.sizes(split)
    starts = np.cumsum((0, *sizes))
    for first in range(0, int(starts[-1]), size):
        last = min(first + size, int(starts[-1]))
        pieces = [
            source.rows(split, shard, np.arange(max(first - start, 0), min(last - start, n)))
            for shard, (start, n) in enumerate(zip(starts[:-1].tolist(), sizes, strict=True))
            if start < last and first < start + n
        ]
        features, labels = zip(*pieces, strict=True)
        yield (features[0], labels[0]) if len(pieces) == 1 else (torch.cat(features), torch.cat(labels))
