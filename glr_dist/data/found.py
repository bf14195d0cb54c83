"""What was found at a path: the splits of a data set in memory, and how to tell people of them in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from glr_dist.data.content import Features, Splits, Targets
from glr_dist.errors import UserError
from glr_dist.seeds import permutation

_TEST_SEED = 2
_SHOWN = 6  # class names
_WORDS = {"train": "training", "validation": "validation", "test": "test"}


@dataclass(kw_only=True)
class Found:
    """A data set as it was read.

    Attributes:
        kind: of the files, in words.
        splits: "train", and perhaps "validation" and "test".
        classes: names of the classes, or of the targets where these are numbers; None: nobody named them.
        notes: what was done to the values on the way, a line each.
    """

    kind: str
    splits: dict[str, tuple[Features, Targets]]
    classes: tuple[str, ...] | None = None
    notes: list[str] = field(default_factory=list)


def with_test(found: Found, share: float) -> Found:
    """With a share of the training rows as the test split, alike from each class, where there is none."""
    x, y = found.splits["train"]
    if "test" in found.splits or not share:
        return found
    groups = [np.flatnonzero(y == label) for label in np.unique(y)] if y.ndim == 1 else [np.arange(len(y))]
    in_test = np.zeros(len(y), dtype=bool)
    for number, rows in enumerate(groups):
        in_test[rows[permutation(len(rows), _TEST_SEED, number)[: round(share * len(rows))]]] = True
    if in_test.any() and not in_test.all():
        found.splits |= {"train": (x[~in_test], y[~in_test]), "test": (x[in_test], y[in_test])}
        found.notes.append(f"{share:.0%} of the rows are the test split (data.test)")
    return found


def told(found: Found, classes: Sequence[str], numbers: bool) -> str:
    """What was seen, in a line: rows, shape, range, classes."""
    rows = ", ".join(f"{len(y):,} {_WORDS[split]}" for split, (_, y) in found.splits.items())
    x = found.splits["train"][0]
    shape = "x".join(map(str, x.shape[1:])) or "1"
    kind = {"u": "0 to 255 as 0 to 1", "f": "numbers", "i": "whole numbers"}[x.dtype.kind]
    span = f"{kind}, from {x.min():g} to {x.max():g}" if x.size else kind
    names = ", ".join(classes[:_SHOWN]) + (", ..." if len(classes) > _SHOWN else "")
    what = "targets that are numbers" if numbers else "classes"
    notes = "".join(f"; {note}" for note in found.notes)
    return f"{found.kind}: {rows} rows of shape {shape} ({span}); {len(classes)} {what}: {names}{notes}"


def as_classes(columns: Mapping[str, np.ndarray]) -> tuple[dict[str, Targets], tuple[str, ...]]:
    """Labels of any kind, by split, as class indices, and the names of the classes; whole numbers in their order.

    Raises:
        UserError: a class has no training row.
    """
    names = np.unique(columns["train"])
    texts = tuple(_name(value) for value in names)
    found = {}
    for split, values in columns.items():
        strangers = np.setdiff1d(np.unique(values), names)
        if len(strangers):
            raise UserError(f"{split} has the class {_name(strangers[0])!r}, of which train has no row")
        found[split] = np.searchsorted(names, values).astype(np.int64)
    return found, texts


def _name(value: object) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def splits_of(features: Mapping[str, Features], targets: Mapping[str, Targets]) -> Splits:
    """Both by split, put together."""
    return {split: (features[split], targets[split]) for split in features}
