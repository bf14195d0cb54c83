"""The user's own arrays as a data set: any feature shape, uint8 or float, in memory.

data = ArrayDataset((x, y), test=(x_test, y_test))        x [n, ...], y [n] class indices
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glr_dist.data.config import check_split_options
from glr_dist.data.content import Features, Labels, check_splits, fingerprint, take
from glr_dist.data.source import DataSource, check_split, hold_out, shards_for, spread
from glr_dist.errors import UserError, first_line

_MOST_UNNAMED = 10_000  # classes that labels alone may make of few rows

if TYPE_CHECKING:
    from torch import Tensor


class ArrayDataset(DataSource):
    """Arrays in memory; pickling copies them."""

    def __init__(
        self,
        train: tuple[Any, Any],
        test: tuple[Any, Any] | None = None,
        *,
        validation: float = 0.1,
        shards: int = 8,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Check the arrays, copy them and spread their rows over shards at random, always in the same way.

        Args:
            train: features [n, ...] and labels [n], as tensors, arrays or lists; uint8 features (0..255) are
                divided by 255 on reading, float ones kept as float32.
            test: the same for the test split.
            validation: share of each training shard held out, in [0, 1).
            shards: number of training shards; fewer when there are fewer rows.
            classes: class names; by default the numbers from 0 to the largest label.

        Raises:
            UserError: naming the split and row of what is wrong.
        """
        check_split_options(validation, shards)
        given = {"train": train} if test is None else {"train": train, "test": test}
        splits = {split: _as_arrays(pair, split) for split, pair in given.items()}
        self.name = "arrays"
        self.classes = tuple(classes) if classes is not None else _numbered({s: y for s, (_, y) in splits.items()})
        check_splits(splits, self.classes)
        self.fingerprint = fingerprint(splits, self.classes)
        self.shape = splits["train"][0].shape[1:]
        self._validation = validation
        train_rows = len(splits["train"][1])
        self._shards: dict[str, list[tuple[Features, Labels]]] = {}
        for split, (features, labels) in splits.items():
            total = shards_for(len(labels), train_rows, min(shards, train_rows))
            self._shards[split] = [(features[rows], labels[rows]) for rows in spread(len(labels), total)]
        self._counts = {stored: tuple(len(y) for _, y in pairs) for stored, pairs in self._shards.items()}
        self._rows = {"test": [np.arange(n) for n in self._counts.get("test", ())]}
        held = [hold_out(n, validation, shard) for shard, n in enumerate(self._counts["train"])]
        self._rows |= {split: [rows[split] for rows in held] for split in ("train", "validation")}
        if self.count("train") == 0:
            raise UserError(f"validation {validation} leaves no training rows of {train_rows}: lower it")

    def rows(self, split: str, shard: int, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Features float32 [B, ...] and labels int64 [B]; see `DataSource.rows`."""
        check_split(split)
        features, labels = self._shards["test" if split == "test" else "train"][shard]
        own = self._rows[split][shard]
        assert len(index) == 0 or (index.min() >= 0 and index.max() < len(own)), (split, shard, len(own))
        return take(features, labels, own[index])


def from_torch(train: Any, test: Any = None, **options: Any) -> ArrayDataset:
    """A ``torch.utils.data.Dataset`` of pairs (x, label), and perhaps another to test on, with all its items in memory.

    ``options`` are those of `ArrayDataset`.

    Raises:
        UserError: for items that are no such pairs, and as `ArrayDataset`.
    """
    return ArrayDataset(_items(train, "train"), None if test is None else _items(test, "test"), **options)


def _items(dataset: Any, split: str) -> tuple[Any, Any]:
    try:
        items = [dataset[number] for number in range(len(dataset))] if hasattr(dataset, "__len__") else list(dataset)
        pairs = [(_as_numpy(x), _as_numpy(y)) for x, y in items]
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{split}: its items are no pairs (x, label): {first_line(error)}") from error
    if not pairs:
        raise UserError(f"{split} has no rows: give at least one")
    try:
        return np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])
    except ValueError as error:
        raise UserError(f"{split}: rows of unequal shape ({first_line(error)})") from error


def _numbered(labels: dict[str, Labels]) -> tuple[str, ...]:
    """The classes that labels make which nobody named: the numbers from 0 to the largest.

    Raises:
        UserError: for far more than there are rows to learn them from.
    """
    every = np.unique(np.concatenate(list(labels.values())))
    top = int(every.max(initial=-1))
    rows = sum(map(len, labels.values()))
    if top >= max(2 * rows, _MOST_UNNAMED):
        raise UserError(f"a label is {top}, which would make {top + 1} classes of {rows} rows: number them from 0")
    missing = np.setdiff1d(np.arange(top + 1), every)
    if len(missing) and every.min(initial=0) >= 0:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        sys.stderr.write(
            f"note: labels go up to {top}, so there are {top + 1} classes, of which {len(missing)} have no row ({shown});"
            " labels start at 0\n"
        )
    return tuple(map(str, range(top + 1)))


def _as_numpy(values: Any) -> NDArray[Any]:
    """A tensor, array or list as numpy; float tensors as float32 (numpy has no bfloat16)."""
    import torch

    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
    array: NDArray[Any] = np.asarray(values)
    return array


def _as_arrays(pair: tuple[Any, Any], split: str) -> tuple[Features, Labels]:
    """uint8 or float32 features [n, ...] and int64 labels [n], or a clear refusal."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UserError(f"{split} is {type(pair).__name__}: give a pair (x, y)")
    try:
        x, y = _as_numpy(pair[0]), _as_numpy(pair[1])
    except ValueError as error:
        raise UserError(f"{split}: rows of unequal length ({error})") from error
    if x.ndim < 1 or (x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating)):
        raise UserError(f"{split}: x is {x.dtype} {list(x.shape)}: give uint8 (0..255) or float, one row an example")
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"{split}: y is {y.dtype} {list(y.shape)}: give one integer class index a row, shape [n]")
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):  # too large for float32 becomes inf, which check_finite names
            x = x.astype(np.float32)
    return x, y.astype(np.int64)
