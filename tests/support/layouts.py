"""Layouts of data that people have, each written by its format's own library."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from sklearn.datasets import dump_svmlight_file

from glr_dist.data.config import DataConfig
from glr_dist.data.dataset import open_dataset
from glr_dist.data.source import DataSource

KINDS = ("cat", "dog", "owl")
RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3
TABLE = RNG.normal(size=(60, 4)).astype(np.float32)
PICTURES = RNG.integers(0, 256, (60, 6, 6), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path, **options)


def opened(root: Path, **options: Any) -> DataSource:
    return open_dataset(DataConfig(name="files", root=str(root), **{"validation": 0.0, **options}))


def rows(data: DataSource, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    x, y = zip(*data.batches(split, 1000), strict=True)
    return torch.cat(x).numpy(), torch.cat(y).numpy()


def frame() -> pd.DataFrame:
    table = pd.DataFrame(TABLE, columns=list("abcd"))
    table["kind"] = np.array(KINDS)[LABELS]
    return table


def picture_bytes(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PLAIN: dict[str, Any] = {"test": 0.0, "standardize": False}


def class_folders(root: Path) -> dict[str, Any]:
    for number, (pixels, label) in enumerate(zip(PICTURES, LABELS, strict=True)):
        save(root / KINDS[label] / f"{number}.png", pixels)
    (root / ".DS_Store").write_bytes(b"")
    (root / ".thumbnails").mkdir()
    return PLAIN


def split_folders(root: Path) -> dict[str, Any]:
    for split in ("train", "val", "test"):
        class_folders(root / split)
    return {}


def csv_with_names(root: Path) -> dict[str, Any]:
    frame().to_csv(root / "pets.csv", index=False)
    return PLAIN


def csv_with_row_numbers(root: Path) -> dict[str, Any]:
    frame().to_csv(root / "pets.csv", sep=";")
    return PLAIN


def csv_without_names(root: Path) -> dict[str, Any]:
    frame().to_csv(root / "pets.data", index=False, header=False)
    return PLAIN


def csv_of_splits(root: Path) -> dict[str, Any]:
    for split in ("train", "test"):
        frame().to_csv(root / f"{split}.csv", index=False)
    return {"standardize": False}


def parquet_table(root: Path) -> dict[str, Any]:
    frame().to_parquet(root / "pets.parquet")
    return PLAIN


def hugging_face(root: Path) -> dict[str, Any]:
    """As `datasets` writes it: image structs, and the classes' names in the schema's metadata."""
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(KINDS)}}
    for split, part in (("train", slice(0, 60)), ("test", slice(0, 30))):
        images = [{"bytes": picture_bytes(pixels), "path": None} for pixels in PICTURES[part]]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(images, kind), "label": pa.array(LABELS[part])})
        said = {"huggingface": json.dumps({"info": {"features": features}})}
        (root / "data").mkdir(exist_ok=True)
        pq.write_table(table.replace_schema_metadata(said), root / "data" / f"{split}-00000-of-00001.parquet")
    return {}


def npz(root: Path) -> dict[str, Any]:
    """As Keras' mnist.npz."""
    np.savez(root / "pets.npz", x_train=PICTURES, y_train=LABELS, x_test=PICTURES[:30], y_test=LABELS[:30])
    return {}


def npz_of_medmnist(root: Path) -> dict[str, Any]:
    """Labels stand in a column of their own."""
    names = {"train": slice(0, 60), "val": slice(0, 30), "test": slice(0, 30)}
    arrays = {f"{s}_images": PICTURES[part] for s, part in names.items()}
    np.savez_compressed(root / "pets.npz", **arrays, **{f"{s}_labels": LABELS[p][:, None] for s, p in names.items()})
    return {}


def arff(root: Path) -> dict[str, Any]:
    from sklearn.externals import _arff

    rows = [[*map(float, row), KINDS[label]] for row, label in zip(TABLE, LABELS, strict=True)]
    attributes = [*((name, "REAL") for name in "abcd"), ("kind", list(KINDS))]
    (root / "pets.arff").write_text(_arff.dumps({"relation": "pets", "attributes": attributes, "data": rows}))
    return PLAIN


def libsvm(root: Path) -> dict[str, Any]:
    """A pair of files as LIBSVM's own data sets have them, with names that tell nothing."""
    for name in ("pets", "pets.t"):
        dump_svmlight_file(TABLE, LABELS, str(root / name), zero_based=False)
    return {"standardize": False}


LAYOUTS: list[tuple[Callable[[Path], dict[str, Any]], str, str]] = [
    (class_folders, "", "pictures"),
    (split_folders, "", "pictures"),
    (csv_with_names, "pets.csv", "table"),
    (csv_with_row_numbers, "pets.csv", "table"),
    (csv_without_names, "", "table"),
    (csv_of_splits, "", "table"),
    (parquet_table, "pets.parquet", "table"),
    (hugging_face, "", "pictures"),
    (npz, "pets.npz", "numbered pictures"),
    (npz_of_medmnist, "pets.npz", "numbered pictures"),
    (arff, "pets.arff", "table"),
    (libsvm, "pets", "numbered table"),
]
