"""A data set of Parquet shards as an actor sees it: pickled in a few kB, opened by each process for itself.

config -> shards (prepared into the cache when missing) -> Dataset -> float32 [B, C, H, W] in [0, 1]
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glr_dist.data import prepare
from glr_dist.data.config import DataConfig
from glr_dist.data.content import Labels, take
from glr_dist.data.doors import open_files, open_made
from glr_dist.data.shard_file import Images
from glr_dist.data.shards import ShardFolder, holds_shards, open_shards, read_shard, refuse_changed
from glr_dist.data.source import DataSource, hold_out
from glr_dist.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

CACHE_BYTES = 1 << 30


class _Shard(NamedTuple):
    """One decoded shard, and which of its rows belong to which split."""

    images: Images
    labels: Labels
    rows: dict[str, NDArray[np.int64]]


class Dataset(DataSource):
    """Images in Parquet shards; each process decodes the shards that it touches and keeps the latest."""

    def __init__(self, folder: ShardFolder, config: DataConfig, *, cache_bytes: int = CACHE_BYTES) -> None:
        """Show a folder of shards as `config` says.

        Args:
            folder: the shards, which another machine may lack.
            config: resize and validation; also how to prepare the shards again on a machine that lacks them.
            cache_bytes: bound on the decoded shards kept by one process, bytes; the latest is always kept.
        """
        self._folder = folder
        self._config = config
        self._counts, self._validation = folder.counts, config.validation
        self._cache_bytes = cache_bytes
        self._decoded: OrderedDict[tuple[str, int], _Shard] = OrderedDict()
        channels, height, width = folder.header.shape
        self.name = folder.header.name
        self.shape = (channels, config.resize or height, config.resize or width)
        self.classes = folder.header.classes
        self.fingerprint = folder.header.fingerprint

    def rows(self, split: str, shard: int, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images float32 [B, C, H, W] in [0, 1] and labels int64 [B]; see `DataSource.rows`.

        Raises:
            UserError: when the shard is damaged, or missing on this machine and cannot be prepared.
        """
        stored = self._shard("test" if split == "test" else "train", shard)
        own = stored.rows[split]
        assert len(index) == 0 or (index.min() >= 0 and index.max() < len(own)), (split, shard, len(own))
        images, labels = take(stored.images, stored.labels, own[index])
        return self._resized(images), labels

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the decoded shards: another process reads its own."""
        return {"folder": self._folder, "config": self._config, "cache_bytes": self._cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with nothing decoded."""
        self.__init__(**state)  # type: ignore[misc]

    def _resized(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) == self.shape:
            return images
        from torch.nn.functional import interpolate

        return interpolate(images, self.shape[1:], mode="bilinear", align_corners=False, antialias=False).contiguous()

    def _shard(self, stored: str, shard: int) -> _Shard:
        """The decoded shard, from memory or from disk; drops those used longest ago."""
        key = (stored, shard)
        if key not in self._decoded:
            self._decoded[key] = self._decode(stored, shard)
            while len(self._decoded) > 1 and self._decoded_bytes() > self._cache_bytes:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(key)
        return self._decoded[key]

    def _decoded_bytes(self) -> int:
        return sum(shard.images.nbytes + shard.labels.nbytes for shard in self._decoded.values())

    def _decode(self, stored: str, shard: int) -> _Shard:
        if not self._folder.file(stored, shard).exists():
            self._folder = self._folder_on_this_machine()
        images, labels = read_shard(self._folder, stored, shard)
        n = len(labels)
        rows = {"test": np.arange(n)} if stored == "test" else hold_out(n, self._validation, shard)
        return _Shard(images, labels, rows)

    def _folder_on_this_machine(self) -> ShardFolder:
        """The driver's folder is not here: open or prepare this machine's own, which must hold the same."""
        folder = _open_folder(self._config)
        if folder.header.fingerprint != self.fingerprint or folder.counts != self._counts:
            raise UserError(
                f"{folder.path} on this machine holds other data than {self._folder.path} on the driver's: "
                "copy the driver's data here"
            )
        return folder


def open_dataset(config: DataConfig, kept: Path | None = None) -> DataSource:
    """Open a data set; shards of a named one are prepared into the cache when they are missing.

    ``kept``: the folder of a run's copy of the code that makes it.

    Raises:
        UserError: when the config, a file or a label is wrong, or the data is missing or no longer what it was.
    """
    config.check()
    if config.name == "files":
        if not holds_shards(config.root):
            return open_files(config)
        config = dataclasses.replace(config, name="parquet")
    if config.name == "factory":
        return open_made(config, kept)
    folder = _open_folder(config)
    refuse_changed(folder)
    dataset = Dataset(folder, config)
    if dataset.count("train") == 0:
        raise UserError(f"data.validation {config.validation} leaves no training rows in {dataset.name}: lower it")
    return dataset


def _open_folder(config: DataConfig) -> ShardFolder:
    if config.name == "parquet":
        return open_shards(Path(config.root).expanduser().absolute())
    return prepare.cached_shards(config.name, config.root, config.cache, config.shards)
