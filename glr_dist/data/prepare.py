"""Writing Parquet shards: into the cache for named data sets, or anywhere for `glr-dist data prepare`."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from glr_dist.data import builtin
from glr_dist.data.builtin import NamedSet
from glr_dist.data.config import NAMES
from glr_dist.data.content import Splits
from glr_dist.data.shard_file import FORMAT
from glr_dist.data.shards import ShardFolder, open_shards, write_shards
from glr_dist.errors import UserError, nearest

_OTHER_SPLITS = ("val", "valid", "validation", "dev")
_GREY_MODES = ("1", "L", "LA")
_COLOUR_MODES = ("P", "RGB", "RGBA")


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
    from torchvision.datasets import ImageFolder

    listed = {}
    for split in ("train", "test"):
        if (path / split).is_dir():
            try:
                listed[split] = ImageFolder(str(path / split))
            except FileNotFoundError as error:
                raise UserError(f"{path / split}: {' '.join(str(error).split())}") from error
    for other in _OTHER_SPLITS:
        if (path / other).is_dir():
            raise UserError(
                f"{path / other} would be left out: validation rows are a share of the training rows (data.validation); move"
                " its images into train or test, or take it away"
            )
    if "train" not in listed:
        raise UserError(f"{path} has no folder train: put the images into train/CLASS/ (and test/CLASS/)")
    classes = tuple(listed["train"].classes)
    samples = {}
    for split, folder in listed.items():
        strangers = sorted(set(folder.classes) - set(classes))
        if strangers:
            raise UserError(
                f"{path / split / strangers[0]} is a class that {path / 'train'} has not: remove or rename it"
            )
        # ImageFolder numbers each folder's classes by itself: a class that test lacks would shift the rest.
        samples[split] = [(Path(file), classes.index(folder.classes[label])) for file, label in folder.samples]
    return NamedSet(_load_images(samples), classes)


def _load_images(samples: dict[str, list[tuple[Path, int]]]) -> Splits:
    """Decode all images: one channel when every one is grey, else three."""
    files = [file for pairs in samples.values() for file, _ in pairs]
    mode = "L" if all(_image_mode(file) in _GREY_MODES for file in files) else "RGB"
    size = _load_image(files[0], mode).shape
    if clear := sum(_is_transparent(file) for file in files):
        sys.stderr.write(f"note: {clear} of {len(files)} images are transparent in places; they are put on white\n")
    splits = {}
    for split, pairs in samples.items():
        images = []
        for file, _ in pairs:
            images.append(_load_image(file, mode))
            if images[-1].shape != size:
                raise UserError(
                    f"{file} is {images[-1].shape[1:]} pixels (height, width) and {files[0]} is {size[1:]}: "
                    "make all images the same size"
                )
        splits[split] = (np.stack(images), np.array([label for _, label in pairs], dtype=np.int64))
    return splits


def _image_mode(file: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            mode = str(image.mode)
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{file} is no readable image: remove or replace it") from error
    if mode not in (*_GREY_MODES, *_COLOUR_MODES):
        raise UserError(f"{file} has pixels of mode {mode!r}: save it with 8 bits a channel, grey or RGB")
    return mode


def _is_transparent(file: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return bool(
                image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255)
            )
    except (OSError, SyntaxError):
        return False  # `_load_image` says what is wrong


def _load_image(file: Path, mode: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 [C, H, W]."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.has_transparency_data:
                white = Image.new("RGBA", image.size, "white")
                pixels = np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert(mode))
            else:
                pixels = np.asarray(image.convert(mode))
    except (OSError, SyntaxError) as error:
        raise UserError(f"{file} is cut short or damaged: remove or replace it") from error
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
