"""What the engine asks of any data set, and the rules that every data set shares.

Rows live in shards; a row is named by (split, shard, row in that split of that shard). "train" and
"validation" are cut from the same training shards, "test" has shards of its own. B rows, feature shape [...]
(images: [C, H, W]).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glr_dist.errors import UserError, nearest
from glr_dist.seeds import permutation

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "validation", "test")
_HOLD_OUT_SEED = 0
_SPREAD_SEED = 1


class DataSource(ABC):
    """A data set as the engine sees it: `Dataset` (Parquet shards) and `ArrayDataset` (the user's arrays).

    Attributes:
        name: what it is called.
        shape: the feature shape of one row.
        classes: the class names, label i means classes[i]; or, of numbers, the names of a row's targets.
        numbers: whether the targets are numbers float32 [B, T], and no labels int64 [B].
        fingerprint: SHA-256 (hex) of the whole content.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    fingerprint: str
    numbers: bool = False
    _counts: dict[str, tuple[int, ...]]  # rows of each stored shard, by "train" and perhaps "validation" and "test"
    _validation: float  # the part of each training shard held out, where there are no validation rows

    def sizes(self, split: str) -> tuple[int, ...]:
        """The rows of each shard for a split; () when there is no such split."""
        return split_sizes(self._counts, self._validation, split)

    @abstractmethod
    def rows(self, split: str, shard: int, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Fresh features and targets of one shard's rows `index` [B], counted within the split.

        Features are float32 [B, ...], or int64 as of an Embedding; targets labels int64 [B], or numbers float32 [B, T].
        """

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """So many training rows, to try something with; few data give some of them twice."""
        shard = next(number for number, rows in enumerate(self.sizes("train")) if rows)
        return self.rows("train", shard, np.sort(np.arange(count) % self.sizes("train")[shard]))

    def count(self, split: str) -> int:
        """All rows of a split; 0 when there is no such split."""
        return sum(self.sizes(split))

    def batches(self, split: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows in stored order, as `rows` gives them, `size` at a time; only the last batch is smaller."""
        assert size > 0, size
        import torch

        sizes = self.sizes(split)
        starts = np.cumsum((0, *sizes)).tolist()
        for first in range(0, starts[-1], size):
            last = min(first + size, starts[-1])
            pieces = [
                self.rows(split, shard, np.arange(max(first - start, 0), min(last - start, n)))
                for shard, (start, n) in enumerate(zip(starts[:-1], sizes, strict=True))
                if start < last and first < start + n
            ]
            features, labels = zip(*pieces, strict=True)
            yield (features[0], labels[0]) if len(pieces) == 1 else (torch.cat(features), torch.cat(labels))


def check_split(split: str) -> None:
    """Raise UserError for a split that is none of train, validation, test."""
    if split not in SPLITS:
        raise UserError(f"there is no split {split!r}: {nearest(split, SPLITS)}")


def spread(rows: int, shards: int) -> list[NDArray[np.int64]]:
    """Deal a split's rows out to its shards at random, so that each is a fair sample; always in the same way.

    Returns:
        For each shard its rows; sizes differ by at most 1.
    """
    return np.array_split(permutation(rows, _SPREAD_SEED), shards)


def hold_out(rows: int, share: float, shard: int) -> dict[str, NDArray[np.int64]]:
    """Cut a training shard (its number) of so many rows; `share`, in [0, 1), of them is held out, alike for every run.

    Returns:
        "train" and "validation": the sorted row numbers of each; together they are all rows once.
    """
    order = permutation(rows, _HOLD_OUT_SEED, shard)
    held = round(share * rows)
    return {"validation": np.sort(order[:held]), "train": np.sort(order[held:])}


def split_sizes(counts: dict[str, tuple[int, ...]], share: float, split: str) -> tuple[int, ...]:
    """`DataSource.sizes`, from the rows of each stored shard and the part of each training shard held out."""
    check_split(split)
    if split == "test" or "validation" in counts:
        return counts.get(split, ())
    held = tuple(round(share * n) for n in counts["train"])
    if split == "validation":
        return held if any(held) else ()
    return tuple(n - h for n, h in zip(counts["train"], held, strict=True))


def shards_for(rows: int, train_rows: int, shards: int) -> int:
    """The number of shards of a split beside `shards` training shards: in proportion to its rows, rounded up."""
    return min(rows, -(-shards * rows // train_rows))
