"""The user's own arrays as a data set, in memory: any feature shape, uint8, float, or whole numbers as of an Embedding.

data = ArrayDataset((x, y), test=(x_test, y_test))        x [n, ...], y [n] class indices or y [n, T] numbers
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glr_dist.data.config import check_split_options
from glr_dist.data.content import Features, Labels, Splits, Targets, check_splits, fingerprint, take
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
        validation: float | tuple[Any, Any] = 0.1,
        shards: int = 8,
        classes: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> None:
        """Check the arrays, copy them and spread their rows over shards at random, always in the same way.

        Args:
            train: features [n, ...] and targets, as tensors, arrays or lists. uint8 features (0..255) are divided by 255 on
                reading, float ones kept as float32, other whole numbers as int64. Targets are class indices [n], or
                numbers: float [n], or float, whole or truth values [n, ...], which become float32 [n, T].
            test: the same for the test split.
            validation: the same for the validation split, or the share of each training shard held out, in [0, 1).
            shards: number of training shards; fewer when there are fewer rows.
            classes: class names, by default the numbers from 0 to the largest label; or names of the T targets.
            name: of the data set.

        Raises:
            UserError: naming the split and row of what is wrong.
        """
        share = validation if isinstance(validation, (int, float)) else 0.0
        check_split_options(share, shards)
        given: dict[str, Any] = {"train": train, "validation": None, "test": test}
        if not isinstance(validation, (int, float)):
            given["validation"] = validation
        splits = {split: _as_arrays(pair, split) for split, pair in given.items() if pair is not None}
        refuse_mixed_targets(splits)
        self.name = name
        self.numbers = splits["train"][1].ndim == 2
        self.classes = _names(splits) if classes is None else tuple(classes)
        check_splits(splits, self.classes)
        self.fingerprint = fingerprint(splits, self.classes)
        self.shape = splits["train"][0].shape[1:]
        self._validation = share
        train_rows = len(splits["train"][1])
        self._shards: dict[str, list[tuple[Features, Targets]]] = {}
        for split, (features, labels) in splits.items():
            total = shards_for(len(labels), train_rows, min(shards, train_rows))
            self._shards[split] = [(features[rows], labels[rows]) for rows in spread(len(labels), total)]
        self._counts = {stored: tuple(len(y) for _, y in pairs) for stored, pairs in self._shards.items()}
        self._rows = {split: [np.arange(n) for n in counts] for split, counts in self._counts.items()}
        if "validation" not in splits:
            held = [hold_out(n, share, shard) for shard, n in enumerate(self._counts["train"])]
            self._rows |= {split: [rows[split] for rows in held] for split in ("train", "validation")}
        if self.count("train") == 0:
            raise UserError(f"validation {share} leaves no training rows of {train_rows}: lower it")

    def rows(self, split: str, shard: int, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Features [B, ...] and targets [B] or [B, T]; see `DataSource.rows`."""
        check_split(split)
        features, labels = self._shards[split if split in self._shards else "train"][shard]
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


def refuse_mixed_targets(splits: Splits) -> None:
    """Raise UserError where one split has class indices and another has numbers."""
    kinds = {split: "class indices" if y.ndim == 1 else "numbers" for split, (_, y) in splits.items()}
    for split, kind in kinds.items():
        if kind != kinds["train"]:
            raise UserError(f"{split}: y are {kind}, those of train {kinds['train']}: give both in the same form")


def _names(splits: Splits) -> tuple[str, ...]:
    """Of classes or targets that nobody named."""
    if splits["train"][1].ndim == 2:
        return tuple(map(str, range(splits["train"][1].shape[1])))
    return _numbered({split: labels for split, (_, labels) in splits.items()})


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
    if hasattr(values, "getbands"):  # an image of PIL's, whose channels come last
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return array


def _as_arrays(pair: tuple[Any, Any], split: str) -> tuple[Features, Targets]:
    """uint8, float32 or int64 features [n, ...], and int64 labels [n] or float32 numbers [n, T]; or a clear refusal."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UserError(f"{split} is {type(pair).__name__}: give a pair (x, y)")
    try:
        x, y = _as_numpy(pair[0]), _as_numpy(pair[1])
    except ValueError as error:
        raise UserError(f"{split}: rows of unequal length ({error})") from error
    if x.ndim < 1 or not (np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating)):
        raise UserError(
            f"{split}: x is {x.dtype} {list(x.shape)}: give uint8 (0..255), float, or whole numbers, one row an example"
        )
    plain = np.issubdtype(y.dtype, np.integer) or np.issubdtype(y.dtype, np.floating)
    if y.ndim < 1 or not (plain or (y.dtype == bool and y.ndim > 1)):
        raise UserError(
            f"{split}: y is {y.dtype} {list(y.shape)}: give one integer class index a row, shape [n], or numbers [n, T]"
        )
    with np.errstate(over="ignore"):  # too large for float32 becomes inf, which check_finite names
        if x.dtype != np.uint8:
            x = x.astype(np.float32 if np.issubdtype(x.dtype, np.floating) else np.int64)
        if y.ndim == 1 and np.issubdtype(y.dtype, np.integer):
            return x, y.astype(np.int64)
        return x, y.reshape(len(y), int(np.prod(y.shape[1:]))).astype(np.float32)
