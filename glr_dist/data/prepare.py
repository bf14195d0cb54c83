"""Writing Parquet shards: into the cache for named data sets, or anywhere for `glr-dist data prepare`."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glr_dist.data import builtin
from glr_dist.data.builtin import NamedSet
from glr_dist.data.config import NAMES
from glr_dist.data.images import VALIDATION, Look, read_image_folder
from glr_dist.data.shard_file import FORMAT
from glr_dist.data.shards import ShardFolder, open_shards, write_shards
from glr_dist.errors import UserError, nearest


def prepare(source: str, out: str, *, root: str = "", shards: int = 8) -> dict[str, Any]:
    """Write a data set as a folder of Parquet shards.

    Args:
        source: a named data set, or a folder with train/CLASS/IMAGE and perhaps test/CLASS/IMAGE.
        out: the folder to write; must not exist, be empty, or already hold the same.
        root: where a named data set's files are; "" = download.
        shards: number of training shards.

    Returns:
        A report: source, out, name, shape, classes, rows and files by split, bytes on disk, fingerprint.

    Raises:
        UserError: when the source is unknown, missing or damaged, or `out` holds something else.
    """
    if source in NAMES:
        name, (splits, classes) = source, builtin.load(source, root)
    elif Path(source).expanduser().is_dir():
        path = Path(source).expanduser().absolute()
        name, (splits, classes) = path.name, _load_image_folder(path)
    else:
        raise UserError(f"{source!r} is neither a folder nor a data set: {nearest(source, NAMES)}")
    folder = write_shards(out, splits, name=name, classes=classes, shards=shards)
    files = {split: len(counts) for split, counts in folder.counts.items()}
    paths = [folder.file(split, shard) for split, total in files.items() for shard in range(total)]
    return {
        "source": source,
        "out": str(folder.path),
        "name": folder.header.name,
        "shape": list(folder.header.shape),
        "classes": list(folder.header.classes),
        "rows": {split: sum(counts) for split, counts in folder.counts.items()},
        "files": files,
        "bytes": sum(path.stat().st_size for path in paths),
        "fingerprint": folder.header.fingerprint,
    }


def cached_shards(name: str, root: str, cache: str, shards: int) -> ShardFolder:
    """The shards of a named data set in this machine's cache, written if they are not there.

    The arguments are the fields of `DataConfig`.

    Raises:
        UserError: when the files are missing or damaged, or the cache is.
    """
    # Looked at even when the cache is warm: a wrong --data-root must not go unnoticed.
    key = _files_key(builtin.raw_files(name, root))
    cache = cache or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/glr_dist"
    target = Path(cache).expanduser().absolute() / f"{name}-{shards}-{key}"
    if target.is_dir():
        return open_shards(target)
    splits, classes = builtin.load(name, root)
    return write_shards(target, splits, name=name, classes=classes, shards=shards)


def _files_key(paths: Iterable[Path]) -> str:
    """Changes with the format and with any file's content: new files never meet an old cache."""
    digest = hashlib.sha256(FORMAT.encode())
    for path in paths:
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()[:12]


def _load_image_folder(path: Path) -> NamedSet:
    """Read train/CLASS/IMAGE and test/CLASS/IMAGE; the training folder's classes count."""
    for other in VALIDATION:
        if (path / other).is_dir():
            raise UserError(
                f"{path / other} would be left out: validation rows are a share of the training rows (data.validation); move"
                " its images into train or test, or take it away"
            )
    if not (path / "train").is_dir():
        raise UserError(f"{path} has no folder train: put the images into train/CLASS/ (and test/CLASS/)")
    found = read_image_folder(path, Look())
    for note in found.notes:
        sys.stderr.write(f"note: {note}\n")
    assert found.classes is not None
    return NamedSet(found.splits, found.classes)
