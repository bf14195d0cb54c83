"""Parquet shards: a data set of images as a folder of files that any process can open by itself.

train-00000-of-00008.parquet ... test-00000-of-00002.parquet
"""

from __future__ import annotations

import re
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glr_dist.data.content import Labels, Splits, check_labels, check_splits, fingerprint
from glr_dist.data.shard_file import PREPARE_AGAIN, Header, Images, read_file, read_footer, read_labels, write_file
from glr_dist.data.source import shards_for, spread
from glr_dist.errors import UserError

_IN_MEMORY = 1 << 30  # bytes of images; more are put in order on the disk
_FILE = re.compile(r"(train|test)-(\d{5})-of-(\d{5})\.parquet")


@dataclass(frozen=True, kw_only=True)
class ShardFolder:
    """A folder of shards whose files are all there and agree; small, picklable."""

    path: Path
    header: Header
    counts: dict[str, tuple[int, ...]]
    """Rows of each shard, by split."""

    def file(self, split: str, shard: int) -> Path:
        """The path of one shard of train or test."""
        return self.path / _file_name(split, shard, len(self.counts[split]))


def write_shards(
    folder: str | Path, splits: Splits, *, name: str, classes: Sequence[str], shards: int = 8
) -> ShardFolder:
    """Write a data set as Parquet shards: beside the folder first, then renamed into place.

    Every shard is a fair sample of its split. A folder that already holds the same data in as many shards is
    accepted, so that two processes may prepare at once.

    Args:
        folder: must not exist, be empty, or hold the same.
        splits: "train" and perhaps "test": images uint8 [n, C, H, W], labels int64 [n].
        name: of the data set.
        classes: their names.
        shards: number of training shards; other splits get theirs in proportion.

    Raises:
        UserError: when the arrays don't fit together, or the folder holds something else or is not writable.
    """
    _check_images(splits, classes, shards)
    target = Path(folder).expanduser()
    train_rows = len(splits["train"][0])
    totals = {split: shards_for(len(labels), train_rows, shards) for split, (_, labels) in splits.items()}
    header = Header(name, splits["train"][0].shape[1:], tuple(classes), fingerprint(splits, classes))
    if _is_taken(target):
        return _accept(target, header, totals)
    temporary = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
    try:
        temporary.mkdir(parents=True)
        for split, (images, labels) in splits.items():
            for shard, rows in enumerate(spread(len(labels), totals[split])):
                file = temporary / _file_name(split, shard, totals[split])
                write_file(file, images[rows], labels[rows], header)
        temporary.rename(target)
    except OSError as error:
        # Renaming onto a full folder fails: then another process was quicker.
        if not _is_taken(target):
            raise UserError(f"cannot write shards to {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _accept(target, header, totals)


def holds_shards(folder: str | Path) -> bool:
    """Whether a folder holds what `write_shards` wrote."""
    path = Path(folder).expanduser()
    first = next((file for file in sorted(path.glob("train-00000-of-*.parquet"))), None) if path.is_dir() else None
    try:
        return first is not None and bool(read_footer(first))
    except UserError:
        return False


def open_shards(folder: str | Path) -> ShardFolder:
    """Open what `write_shards` wrote: every shard's footer and labels are looked at, images are left for later.

    Raises:
        UserError: naming the folder or file: nothing there, a shard missing, damaged, or unlike the others,
            or a label out of range.
    """
    path = Path(folder).expanduser()
    files = _list_files(path)
    first = files["train"][0]
    header, _ = read_footer(first)
    counts = {split: tuple(_check_file(file, header, first) for file in own) for split, own in files.items()}
    return ShardFolder(path=path, header=header, counts=counts)


def read_shard(folder: ShardFolder, split: str, shard: int) -> tuple[Images, Labels]:
    """Decode one shard of train or test; checksums are verified on the way.

    Returns:
        Images uint8 [n, C, H, W] and labels int64 [n], read-only views of the decoded columns.

    Raises:
        UserError: naming the file when it is gone, damaged or changed.
    """
    path = folder.file(split, shard)
    images, labels = read_file(path, folder.header.shape)
    if len(labels) != folder.counts[split][shard]:
        raise UserError(f"{path} has {len(labels)} rows, not {folder.counts[split][shard]} as before: start again")
    return images, labels


def refuse_changed(folder: ShardFolder) -> None:
    """Take the fingerprint of what the shards hold now: checksums alone don't tell that a shard was written anew.

    Raises:
        UserError: it is not the one that they were written with; or a file is damaged.
    """
    splits = {}
    shape = folder.header.shape
    for split, counts in folder.counts.items():
        total = sum(counts)
        with tempfile.TemporaryFile() as file:
            large = total * int(np.prod(shape)) > _IN_MEMORY
            images = (
                np.memmap(file, np.uint8, "w+", shape=(total, *shape)) if large else np.empty((total, *shape), np.uint8)
            )
        labels = np.empty(total, np.int64)
        for shard, rows in enumerate(spread(total, len(counts))):
            if len(rows) == counts[shard]:  # else the fingerprint is another in any case
                images[rows], labels[rows] = read_shard(folder, split, shard)
        splits[split] = (images, labels)
    if fingerprint(splits, folder.header.classes) != folder.header.fingerprint:
        raise UserError(
            f"{folder.path} has other content than its fingerprint says: pixels or labels were changed; {PREPARE_AGAIN}"
        )


def _check_images(splits: Splits, classes: Sequence[str], shards: int) -> None:
    """uint8 [n, C, H, W], consistent, and enough rows for the shards."""
    for split, (images, _) in splits.items():
        if images.dtype != np.uint8 or images.ndim != 4:
            raise UserError(f"{split} images are {images.dtype} {list(images.shape)}: shards hold uint8 [n, C, H, W]")
    check_splits(splits, classes)
    rows = len(splits["train"][0])
    if not 1 <= shards <= rows:
        raise UserError(f"data.shards is {shards}: choose from 1 to {rows}, the number of training rows")


def _file_name(split: str, shard: int, total: int) -> str:
    return f"{split}-{shard:05d}-of-{total:05d}.parquet"


def _is_taken(target: Path) -> bool:
    """Whether something is there that a rename would not replace."""
    return target.exists() and (not target.is_dir() or any(target.iterdir()))


def _accept(target: Path, header: Header, totals: dict[str, int]) -> ShardFolder:
    """Open what is there if it is what would have been written."""
    try:
        found = open_shards(target)
    except UserError as error:
        raise UserError(f"{target} exists and holds something else ({error}): choose a new folder") from error
    if found.header != header or {split: len(n) for split, n in found.counts.items()} != totals:
        raise UserError(f"{target} exists and holds other shards ({found.header.name}): choose a new folder")
    return found


def _list_files(path: Path) -> dict[str, list[Path]]:
    """All shards by split, in order; refuses a folder with gaps."""
    try:
        names = sorted(file.name for file in path.iterdir()) if path.is_dir() else []
    except OSError as error:
        raise UserError(f"data.root (--data-root) {str(path)!r} cannot be read: {error.strerror}") from error
    found: dict[str, dict[int, set[int]]] = {}
    for match in filter(None, map(_FILE.fullmatch, names)):
        found.setdefault(match[1], {}).setdefault(int(match[3]), set()).add(int(match[2]))
    if "train" not in found:
        what = "holds no training shards" if path.is_dir() else "is not a folder"
        raise UserError(
            f"data.root (--data-root) {str(path)!r} {what}: looked for train-00000-of-*.parquet; "
            "`glr-dist data prepare` writes them"
        )
    files = {}
    for split, totals in sorted(found.items(), reverse=True):
        if len(totals) > 1:
            several = " and ".join(map(str, sorted(totals)))
            raise UserError(f"{path} mixes {split} shards of sets of {several} files: keep one set")
        ((total, shards),) = totals.items()
        missing = sorted(set(range(total)) - shards)
        if missing:
            raise UserError(f"{path} lacks {_file_name(split, missing[0], total)}: copy it there, or {PREPARE_AGAIN}")
        files[split] = [path / _file_name(split, shard, total) for shard in range(total)]
    return files


def _check_file(path: Path, header: Header, first: Path) -> int:
    """Refuse a shard unlike the first or with labels out of range; returns its number of rows."""
    own, rows = read_footer(path)
    for field, value, wanted in zip(Header._fields, own, header, strict=True):
        if value != wanted:
            raise UserError(
                f"{path} has {field} {value}, but {first.name} has {wanted}: keep the shards of one data set in a folder"
            )
    check_labels(read_labels(path), header.classes, str(path))
    return rows
