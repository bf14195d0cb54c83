"""NumPy archives: x_train, y_train and perhaps x_val, y_val, x_test, y_test, however they are called."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from glr_dist.data.config import DataConfig
from glr_dist.data.content import Features, Targets
from glr_dist.data.found import Found, as_classes
from glr_dist.errors import UserError, first_line

_FEATURES = ("x", "images", "image", "data", "features", "inputs", "arr_0")
_TARGETS = ("y", "labels", "label", "targets", "target", "arr_1")
_SPLITS = {"train": "train", "training": "train", "": "train", "test": "test", "val": "validation"} | {
    "valid": "validation",
    "validation": "validation",
}
_CHANNELS = (1, 3, 4)


def read_npz(path: Path, config: DataConfig) -> Found:
    """Read an archive.

    Raises:
        UserError: naming the array that is missing or does not fit.
    """
    arrays = _arrays(path)
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        role, split = _role(name)
        if role:
            parts.setdefault(split, {})[role] = values
    names = ", ".join(arrays)
    for split, part in parts.items():
        if len(part) < 2:
            (have,) = part
            missing = "targets, such as y_" if have == "x" else "features, such as x_"
            raise UserError(f"{path}: of {split} there are no {missing}{split}; it holds {names}")
    if "train" not in parts:
        raise UserError(f"{path}: holds {names or 'nothing'}; call the arrays x_train, y_train, x_test, y_test")
    notes: list[str] = []
    features = {split: shaped(part["x"], notes) for split, part in parts.items()}
    targets, classes = targets_of({split: part["y"] for split, part in parts.items()}, config)
    pairs: dict[str, tuple[Features, Targets]] = {split: (features[split], targets[split]) for split in parts}
    return Found(kind="NumPy arrays", splits=pairs, classes=classes, notes=list(dict.fromkeys(notes)))


def targets_of(given: dict[str, np.ndarray], config: DataConfig) -> tuple[dict[str, Targets], tuple[str, ...] | None]:
    """Class indices [n] or numbers [n, T], and the classes' names where the values themselves are no indices."""
    found = {split: y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y for split, y in given.items()}
    train = found["train"]
    if train.ndim == 2 and config.targets == "classes":  # one of them is 1
        for split, y in found.items():
            if not ((y == 0) | (y == 1)).all() or not (y.sum(1) == 1).all():
                raise UserError(f"data.targets = 'classes': {split}'s y {list(y.shape)} are no rows with a single 1")
        return {split: y.argmax(1).astype(np.int64) for split, y in found.items()}, None
    fractions = train.dtype.kind == "f" and not np.equal(np.mod(train, 1), 0).all()
    if config.targets == "numbers" or train.ndim > 1 or (fractions and not config.targets):
        return {split: y.reshape(len(y), -1).astype(np.float32) for split, y in found.items()}, None
    if train.dtype.kind in "iu" and int(train.min(initial=0)) >= 0:
        return {split: y.astype(np.int64) for split, y in found.items()}, None
    return as_classes(found)


def shaped(x: np.ndarray, notes: list[str]) -> Features:
    """Images with their channels first; everything else as it is."""
    if x.dtype == bool:
        x = x.astype(np.float32)
    if x.dtype == np.uint8 and x.ndim == 3:
        notes.append("images without channels get one")
        return x[:, None]
    if x.ndim == 4 and x.shape[3] in _CHANNELS and x.shape[1] not in _CHANNELS:
        notes.append("channels, which come last, are put first")
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        raise UserError(f"{path}: holds Python objects, which would have to be run: save plain arrays") from error
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: can't be read as a NumPy archive: {first_line(error)}") from error


def _role(name: str) -> tuple[str, str]:
    """("x" or "y", split) of an array's name; ("", "") of one that is neither."""
    words = [word for word in re.split(r"[_\-. ]+", name) if word]
    lower = [word.lower() for word in words]
    split = next((_SPLITS[word] for word in lower if word in _SPLITS), "train")
    rest = "_".join(word for word in lower if word not in _SPLITS) or name.lower()
    if name.lower() in ("xtrain", "xtest", "ytrain", "ytest"):
        return name.lower()[0], _SPLITS[name.lower()[1:]]
    return ("x" if rest in _FEATURES else "y" if rest in _TARGETS else ""), split
