"""What a path is: one function looks at it, has it read, and says what it saw.

path -> `Found` (splits in memory) -> test split -> `ArrayDataset`
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from glr_dist.core.own_code import called, own
from glr_dist.data.arrays import ArrayDataset, from_torch
from glr_dist.data.builtin import torchvision_sets
from glr_dist.data.config import NAMES, DataConfig
from glr_dist.data.found import Found, told, with_test
from glr_dist.data.images import ORDER, SPLITS, Look, folders_in, is_image, read_image_folder
from glr_dist.data.npz import read_npz
from glr_dist.data.source import DataSource
from glr_dist.data.table_files import read_arff, read_csv, read_libsvm, read_parquet
from glr_dist.data.tables import Scale
from glr_dist.errors import UserError, nearest

_FEWEST = 1024  # rows of a shard
_READERS = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".data": read_csv,
    ".parquet": read_parquet,
    ".arff": read_arff,
    ".libsvm": read_libsvm,
    ".svmlight": read_libsvm,
    ".svm": read_libsvm,
}
_FORMS = "a folder of images in class folders, .npz, .csv, .tsv, .parquet, .arff or .libsvm"
_PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib")


def open_files(config: DataConfig) -> ArrayDataset:
    """The data set that lies at ``config.root``; what was seen is written to standard error.

    Raises:
        UserError: nothing is there, or what is there fits no door; names the file, row or column.
    """
    path = Path(config.root).expanduser()
    found, scale = _read(path, config)
    found = with_test(found, config.test)
    if scale is not None and config.standardize:
        found = scale.apply(found)
    validation: Any = found.splits.get("validation", config.validation)
    rows = len(found.splits["train"][1])
    data = ArrayDataset(
        found.splits["train"],
        found.splits.get("test"),
        validation=validation,
        shards=max(1, min(config.shards, rows // _FEWEST)),
        classes=found.classes,
        name=path.name,
    )
    sys.stderr.write(f"data: {path.name}: {told(found, data.classes, data.numbers)}\n")
    return data


def open_made(config: DataConfig, kept: Path | None = None) -> DataSource:
    """The data set that the user's own function makes; ``kept``: the folder of a run's copy of its code.

    Raises:
        UserError: it can't be called, or returns something else.
    """
    key, text = "data.factory (--data)", config.factory
    made = called(key, text, own(key, text, kept), {})
    if isinstance(made, DataSource):
        return made
    options: dict[str, Any] = {"validation": config.validation, "shards": config.shards}
    splits = made if isinstance(made, tuple) and len(made) in (1, 2) else (made,)
    if all(isinstance(split, tuple) and len(split) == 2 for split in splits):
        return ArrayDataset(*splits, **options, name=text)
    if all(hasattr(split, "__getitem__") or hasattr(split, "__iter__") for split in splits):
        return from_torch(*splits, **options, name=text)
    raise UserError(
        f"{key} = {text!r}: returned {type(made).__name__}; return a torch Dataset, a glr_dist.ArrayDataset, or a pair"
        " (train, test) of torch Datasets or of pairs (x, y)"
    )


def _read(path: Path, config: DataConfig) -> tuple[Found, Scale | None]:
    if not path.exists():
        there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, [*there, *NAMES]) if there else f"{path.parent} is not there either"
        raise UserError(f"data.root (--data) {str(path)!r}: there is no such file or folder; {hint}")
    files = _files_of_splits(path)
    suffixes = {file.suffix.lower() for group in files.values() for file in group} - {".t"}
    if len(suffixes) > 1:
        raise UserError(f"{path} holds files of several kinds ({', '.join(sorted(suffixes))}): name one of them")
    if not files:
        return _read_folder(path, config)
    suffix = suffixes.pop()
    if suffix == ".npz":
        ((file, *more), *_) = files.values()
        if more or len(files) > 1:
            raise UserError(f"{path} holds several .npz files: name one of them, or put all arrays into one")
        return read_npz(file, config), None
    reader = _READERS.get(suffix) or (read_libsvm if _looks_like_libsvm(files["train"][0]) else None)
    if reader is not None:
        return reader(files, config)
    raise UserError(f"data.root (--data) {str(path)!r}: {_why_not(path, suffix)}")


def _read_folder(path: Path, config: DataConfig) -> tuple[Found, Scale | None]:
    known = torchvision_sets(path)
    if known:
        raise UserError(f"{path} is laid out as by torchvision: use --data {known[0]} --data-root {path}")
    if not folders_in(path):
        loose = sum(map(is_image, path.iterdir()))
        what = f"{loose} images outside class folders" if loose else "nothing that is a data set"
        raise UserError(f"data.root (--data) {str(path)!r} holds {what}; give {_FORMS}")
    return read_image_folder(path, Look(resize=config.resize, crop=config.crop, grey=config.grey)), None


def _files_of_splits(path: Path) -> dict[str, list[Path]]:
    """The files of each split: of a folder those that are called train..., test... and so on; a file is the training rows.

    {}: a folder without such files.
    """
    if path.is_file():
        beside = path.with_name(f"{path.name}.t")  # as libsvm's own data sets have it
        return {"train": [path]} | ({"test": [beside]} if beside.is_file() else {})
    for folder in (path, path / "data"):  # the latter as Hugging Face has it
        found: dict[str, list[Path]] = {}
        every = sorted(folder.iterdir()) if folder.is_dir() else []
        readable = [file for file in every if file.is_file() and file.suffix.lower() in (*_READERS, ".npz")]
        for file in readable:
            word = re.split(r"[-_.]", file.stem.lower())[0]
            if word in SPLITS:
                found.setdefault(SPLITS[word], []).append(file)
        if "train" in found:
            return {split: found[split] for split in ORDER if split in found}
        if len(readable) == 1:
            return {"train": readable}
        if readable:
            names = ", ".join(file.name for file in readable[:3])
            raise UserError(f"{folder} holds {names}: name one of them, or call them train and test")
    return {}


def _looks_like_libsvm(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as lines:
            return re.match(r"[-+.\deE]+(\s+\d+:[-+.\deE]+)+\s*(#.*)?$", lines.readline()) is not None
    except (OSError, UnicodeDecodeError):
        return False


def _why_not(path: Path, suffix: str) -> str:
    if suffix in _PACKED:
        return f"is packed; unpack it, and give {_FORMS}"
    if suffix in _PICKLES:
        return "is a pickle, which would run code; save the arrays by numpy.savez(x_train=..., y_train=...)"
    if suffix == ".npy":
        return "is a single array; save x_train and y_train by numpy.savez"
    if is_image(path):
        return "is one image; give the folder that holds the class folders"
    return f"is no data set that is known here; give {_FORMS}"
