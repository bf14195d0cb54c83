"""The settings of the data."""

from __future__ import annotations

from dataclasses import dataclass

from glr_dist.errors import UserError, nearest

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10")  # named data sets


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data set, and how it is cut and shown."""

    name: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, or parquet: a folder of shards."""
    root: str = ""
    """The folder of the data: torchvision's layout, or the shards of `parquet`; "" = download if needed."""
    resize: int = 0
    """Side in pixels, 0 = as stored; bilinear without antialiasing: half the size is the 2x2 mean."""
    validation: float = 0.1
    """Share of each training shard held out; the same rows for every run."""
    shards: int = 8
    """Number of training shards that a named data set is written to."""
    cache: str = ""
    """Where prepared shards of named data sets live; "" = $XDG_CACHE_HOME/glr_dist or ~/.cache/glr_dist."""

    def check(self) -> None:
        """Raise UserError naming the first field whose value can't be."""
        names = (*NAMES, "parquet")
        if self.name not in names:
            raise UserError(f"data.name is {self.name!r}: {nearest(self.name, names)}")
        if self.name == "parquet" and not self.root:
            raise UserError("data.name is 'parquet' but data.root is empty: give the folder of shards (--data-root)")
        if self.resize < 0:
            raise UserError(f"data.resize is {self.resize}: give a side in pixels, or 0 for the stored size")
        check_split_options(self.validation, self.shards)


def check_split_options(validation: float, shards: int) -> None:
    """Raise UserError for a validation share outside [0, 1) or a number of training shards below 1."""
    if not 0 <= validation < 1:
        raise UserError(f"data.validation is {validation}: give a share of at least 0 and below 1, such as 0.1")
    if shards < 1:
        raise UserError(f"data.shards is {shards}: give at least 1")
