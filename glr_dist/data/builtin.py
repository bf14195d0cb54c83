"""The named data sets, as arrays: digits from scikit-learn, the others through torchvision.

Images uint8 [n, C, H, W], labels int64 [n]; train and test stay as their authors cut them (digits has no such
cut and gets one here).
"""

from __future__ import annotations

import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glr_dist.data.content import Splits
from glr_dist.errors import UserError
from glr_dist.seeds import permutation

_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_RAW = {
    "digits": ("", ()),
    "mnist": ("MNIST/raw", _IDX),
    "fashion-mnist": ("FashionMNIST/raw", _IDX),
    "cifar10": ("cifar-10-batches-py", (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")),
}
_DIGITS_TEST = 0.2
_DIGITS_SEED = 2


class NamedSet(NamedTuple):
    """A named data set in memory."""

    splits: Splits
    classes: tuple[str, ...]


def raw_files(name: str, root: str) -> tuple[Path, ...]:
    """The files that a named data set is read from; () for what is downloaded (no root) or needs none.

    Raises:
        UserError: naming --data-root and the first file that is missing.
    """
    folder, files = _RAW[name]
    if not root or not files:
        return ()
    paths = tuple(Path(root).expanduser() / folder / file for file in files)
    for path in paths:
        if not path.is_file():
            raise UserError(
                f"data.root (--data-root) {root!r} holds no {name}: looked for {path} (unpacked); "
                "leave --data-root out to download it"
            )
    return paths


def torchvision_sets(root: Path) -> list[str]:
    """The named data sets whose files lie in a folder as torchvision lays them out."""
    return [name for name, (folder, _) in _RAW.items() if folder and (root / folder).is_dir()]


def load(name: str, root: str) -> NamedSet:
    """Read a named data set from `root`, a folder in torchvision's layout; "": download it.

    Raises:
        UserError: when the files are missing or damaged, or the download fails.
    """
    if name == "digits":
        return _digits()
    if raw_files(name, root):
        try:
            return _torchvision(name, str(Path(root).expanduser()), download=False)
        except (RuntimeError, ValueError, AssertionError, OSError, EOFError) as error:
            raise UserError(
                f"the {name} files in {root!r} (--data-root) are cut short or damaged ({_one_line(error)}): "
                "replace them"
            ) from error
    sys.stderr.write(f"downloading {name}: its files were not given (--data-root)\n")
    with tempfile.TemporaryDirectory(prefix="glr-dist-") as scratch:
        try:
            return _torchvision(name, scratch, download=True)
        except (RuntimeError, OSError) as error:
            folder, files = _RAW[name]
            raise UserError(
                f"{name} could not be downloaded ({_one_line(error)}): put {files[0]} and its like into "
                f"DIR/{folder} and give --data-root DIR"
            ) from error


def _one_line(error: BaseException) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 120, placeholder=" ...")


def _digits() -> NamedSet:
    """Values 0..16 become 0..255; a fifth of each class is the test split."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    in_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        rows = np.flatnonzero(labels == label)
        order = permutation(len(rows), _DIGITS_SEED, label)
        in_test[rows[order[: round(_DIGITS_TEST * len(rows))]]] = True
    splits = {"train": (images[~in_test], labels[~in_test]), "test": (images[in_test], labels[in_test])}
    return NamedSet(splits, tuple(map(str, range(10))))


def _torchvision(name: str, root: str, *, download: bool) -> NamedSet:
    """The arrays behind a torchvision data set, bypassing its per-item images."""
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST, "cifar10": datasets.CIFAR10}[name]
    splits, classes = {}, ()
    for split in ("train", "test"):
        source: Any = kind(root, train=split == "train", download=download)
        images = np.asarray(source.data)
        images = images.transpose(0, 3, 1, 2) if images.ndim == 4 else images[:, None]
        splits[split] = (np.ascontiguousarray(images), np.asarray(source.targets, dtype=np.int64))
        classes = tuple(source.classes)
    # torchvision's names for MNIST are "0 - zero" and so on.
    return NamedSet(splits, tuple(map(str, range(10))) if name == "mnist" else classes)
