"""The content of a data set: what it must hold, its fingerprint, and how stored rows become tensors.

A split is a pair of arrays: features [n, ...] (uint8, float32, or int64 as of an Embedding) and targets: labels int64 [n],
or numbers float32 [n, T], as of a regression or of several labels at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glr_dist.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Features = NDArray[Any]
Labels = NDArray[np.int64]
Targets = NDArray[Any]
Splits = Mapping[str, tuple[Features, Targets]]


def check_splits(splits: Splits, classes: Sequence[str]) -> None:
    """Raise UserError, naming the split, for a "train" and perhaps "validation" and "test" that cannot be trained on."""
    assert {"train"} <= set(splits) <= {"train", "validation", "test"}, list(splits)
    shape = splits["train"][0].shape[1:]
    for split, (features, labels) in splits.items():
        if len(features) != len(labels):
            found = f"{len(features)} rows of features and {len(labels)} labels"
            raise UserError(f"{split} has {found}: give one label a row")
        if len(features) == 0:
            raise UserError(f"{split} has no rows: give at least one")
        if features.shape[1:] != shape:
            own = list(features.shape[1:])
            raise UserError(f"{split} rows have shape {own} and train rows {list(shape)}: make them equal")
        if labels.ndim == 1:
            check_labels(labels, classes, split)
        elif labels.shape[1] != len(classes):
            raise UserError(f"{split} has {labels.shape[1]} targets a row and train {len(classes)}: make them equal")
        else:
            check_finite(labels, f"{split}'s targets")
        check_finite(features, split)


def check_labels(labels: Labels, classes: Sequence[str], where: str) -> None:
    """Raise UserError for the first row whose label is no index into the classes; `where`: the split or shard."""
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise UserError(
            f"{where}, row {wrong[0]}: label {labels[wrong[0]]} is out of range: "
            f"there are {len(classes)} classes, so labels go from 0 to {len(classes) - 1}"
        )


def check_finite(features: Features, where: str) -> None:
    """Raise UserError for the first row of float features that are NaN or infinite; `where`: the split."""
    if not np.issubdtype(features.dtype, np.floating):
        return
    wrong = np.flatnonzero(~np.isfinite(features).reshape(len(features), -1).all(axis=1))
    if len(wrong):
        raise UserError(f"{where}, row {wrong[0]}: not finite in float32 ({len(wrong)} such rows): clean or drop them")


def fingerprint(splits: Splits, classes: Sequence[str]) -> str:
    """SHA-256 (hex) over all splits, rows as the caller orders them; how shards hold them does not matter."""
    digest = hashlib.sha256()
    for split in sorted(splits):
        features, labels = splits[split]
        digest.update(json.dumps([split, features.shape, features.dtype.name, list(classes)]).encode())
        digest.update(np.ascontiguousarray(features).data)
        digest.update(np.ascontiguousarray(labels, dtype="<i8" if labels.ndim == 1 else "<f4").data)
    return digest.hexdigest()


def take(features: Features, labels: Targets, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Copy the rows `index` [B] into fresh tensors of torch's own memory (the bits of a matrix product depend on alignment).

    Returns:
        float32 [B, ...], uint8 features being divided by 255, or int64 [B, ...]; and labels int64 [B], or float32 [B, T].
    """
    import torch

    # numpy's copy is aligned to 16 bytes only; .to() and .clone() copy again, into torch's 64.
    # numpy's indexing keeps a transposed array's strides, and torch's copies would too.
    rows = torch.from_numpy(np.ascontiguousarray(features[index]))
    x = rows.to(torch.float32).div_(255) if rows.dtype == torch.uint8 else rows.clone()
    return x, torch.from_numpy(labels[index]).clone()
