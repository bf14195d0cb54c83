"""Tables: columns of numbers, texts and truth values, one of which (or several) is what is to be predicted.

Text columns become one 0-1 column for each of their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glr_dist.data.config import DataConfig
from glr_dist.data.content import Features, Targets
from glr_dist.data.found import Found, as_classes
from glr_dist.errors import UserError, nearest

Columns = dict[str, np.ndarray]  # name -> values [n]: numbers, truth values, or texts (object)

_LABELS = ("label", "labels", "target", "targets", "class", "y", "outcome", "species", "fine_label")
_ROW_NUMBERS = ("", "unnamed: 0", "index", "id", "__index_level_0__")
_MOST_VALUES = 50  # of a text column


class Scale:
    """Which columns of a table hold numbers, and so want to be standardized."""

    def __init__(self, numeric: Sequence[bool]) -> None:
        self.numeric = np.array(numeric, dtype=bool)

    def apply(self, found: Found) -> Found:
        """Subtract the training rows' mean and divide by their standard deviation, of such columns, in every split."""
        x = found.splits["train"][0][:, self.numeric].astype(np.float64)
        mean, std = x.mean(0), x.std(0)
        std[std == 0] = 1.0
        for split, (features, targets) in found.splits.items():
            scaled = features.copy()
            scaled[:, self.numeric] = ((features[:, self.numeric] - mean) / std).astype(np.float32)
            found.splits[split] = (scaled, targets)
        if self.numeric.any():
            found.notes.append("columns of numbers are standardized by the training rows (data.standardize)")
        return found


def from_columns(
    kind: str, tables: Mapping[str, Columns], config: DataConfig, names: Mapping[str, Sequence[str]] | None = None
) -> tuple[Found, Scale]:
    """A data set from its splits' columns.

    Args:
        kind: of the files, in words.
        tables: the columns by split.
        config: says which column is the label, which are left out, and what kind the targets are.
        names: of the classes that a label column's whole numbers mean, by column.

    Raises:
        UserError: naming the column that does not fit.
    """
    notes: list[str] = []
    _refuse_unequal(tables)
    labels = _labels(tables["train"], config, notes)
    dropped = _dropped(tables["train"], config, labels, notes)
    targets, classes = _targets(tables, labels, config, (names or {}).get(labels[0]))
    inputs = [name for name in tables["train"] if name not in (*labels, *dropped)]
    if not inputs:
        raise UserError(f"{kind}: no column is left beside {', '.join(map(repr, labels))} to predict it from")
    features, numeric = _features(tables, inputs, notes)
    pairs: dict[str, tuple[Features, Targets]] = {split: (features[split], targets[split]) for split in tables}
    return Found(kind=kind, splits=pairs, classes=classes, notes=notes), Scale(numeric)


def known_column(key: str, name: str, columns: Sequence[str]) -> None:
    """Raise UserError for a column that a key names and that is not there."""
    if name not in columns:
        raise UserError(f"{key} = {name!r}: no such column; {nearest(name, columns)}")


def guessed_label(columns: Sequence[str]) -> str:
    """The column that is called like a label; else the last."""
    return next((c for wanted in _LABELS for c in columns if c.lower() == wanted), columns[-1])


def _refuse_unequal(tables: Mapping[str, Columns]) -> None:
    for split, columns in tables.items():
        differing = sorted(set(columns) ^ set(tables["train"]))
        if differing:
            raise UserError(f"column {differing[0]!r} is not in both train and {split}: give both the same columns")


def _labels(train: Columns, config: DataConfig, notes: list[str]) -> tuple[str, ...]:
    for name in config.label:
        known_column("data.label", name, list(train))
    if config.label:
        return config.label
    label = guessed_label(list(train))
    notes.append(f"column {label!r} is what is predicted (data.label)")
    return (label,)


def _dropped(train: Columns, config: DataConfig, labels: Sequence[str], notes: list[str]) -> tuple[str, ...]:
    for name in config.drop:
        known_column("data.drop", name, list(train))
    numbers = tuple(
        name
        for name, values in train.items()
        if name.lower() in _ROW_NUMBERS
        and name not in (*labels, *config.drop)
        and len(np.unique(values)) == len(values)
    )
    if numbers:
        notes.append(f"column {numbers[0]!r} numbers the rows and is left out")
    return (*config.drop, *numbers)


def _targets(
    tables: Mapping[str, Columns], labels: Sequence[str], config: DataConfig, names: Sequence[str] | None
) -> tuple[dict[str, Targets], tuple[str, ...]]:
    first = tables["train"][labels[0]]
    fractions = first.dtype.kind == "f" and not np.equal(np.mod(first, 1), 0).all()
    numbers = config.targets == "numbers" or (not config.targets and (len(labels) > 1 or fractions))
    if not numbers and len(labels) > 1:
        raise UserError(f"data.label = {list(labels)}: of several columns only numbers are predicted (data.targets)")
    if not numbers:
        found, classes = as_classes({split: columns[labels[0]] for split, columns in tables.items()})
        return found, tuple(names[int(name)] for name in classes) if names is not None else classes
    for name in labels:
        if tables["train"][name].dtype.kind not in "fiub":
            raise UserError(f"data.label = {name!r}: holds texts, so classes; leave data.targets = 'numbers' out")
    stacked = {s: np.stack([columns[n] for n in labels], axis=1).astype(np.float32) for s, columns in tables.items()}
    return stacked, tuple(labels)


def _features(
    tables: Mapping[str, Columns], inputs: Sequence[str], notes: list[str]
) -> tuple[dict[str, Features], list[bool]]:
    parts: dict[str, list[np.ndarray]] = {split: [] for split in tables}
    numeric: list[bool] = []
    spread = []
    for name in inputs:
        train = tables["train"][name]
        if train.dtype.kind in "fiu":
            values: Sequence[Any] = ()
            numeric.append(True)
        elif train.dtype.kind == "b":
            values = ()
            numeric.append(False)
        else:
            values = sorted(set(train))
            if len(values) > _MOST_VALUES:
                raise UserError(
                    f"column {name!r} holds {len(values)} different texts, such as {values[0]!r}: leave it out by --set"
                    f" data.drop={name}, or write numbers there"
                )
            numeric += [False] * len(values)
            spread.append(name)
        for split, columns in tables.items():
            parts[split] += [columns[name] == value for value in values] if values else [columns[name]]
    if spread:
        notes.append(f"texts become a 0-1 column for each value: {', '.join(spread)}")
    return {split: np.stack(columns, axis=1).astype(np.float32) for split, columns in parts.items()}, numeric
