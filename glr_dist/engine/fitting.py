"""A batch that small data can fill: of few rows it becomes smaller, and that is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from glr_dist.config import Config
from glr_dist.data.source import DataSource


def fitted(config: Config, data: DataSource, whole: bool, say: Callable[[str], None]) -> Config:
    """The config with the largest batch, up to its own, that the data's training rows give, in units of its quarters.

    Where the config's own batch is to be had, or nothing is, it stays what it was. ``whole``: a loss is that of a whole
    batch, whose rows come from one shard.
    """
    sizes, rows = data.sizes("train"), config.units.rows
    if config.batch % (rows or 1) or _fits(config.batch, config.units.rows_for(config.batch, whole=whole), sizes):
        return config
    units = dataclasses.replace(config.units, rows=0)
    quarters = range(min(config.batch, sum(sizes)) // 4 * 4, 0, -4)
    batch = next((size for size in quarters if _fits(size, units.rows_for(size, whole=whole), sizes)), 0)
    if not batch:
        return config
    say(
        f"note: batch = {config.batch}: {sum(sizes):,} training rows in {len(sizes)} shards give less; it is {batch} here"
    )
    return dataclasses.replace(config, batch=batch, units=units)


def _fits(batch: int, rows: int, sizes: tuple[int, ...]) -> bool:
    return sum(size // rows for size in sizes) >= batch // rows
