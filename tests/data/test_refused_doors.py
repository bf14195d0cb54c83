"""Paths that are no data set, or a broken one, are refused in one line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import LABELS, PICTURES, TABLE, csv_with_names, frame, opened, save

from glr_dist.data.config import DataConfig
from glr_dist.errors import UserError


def _broken_npz(root: Path) -> Path:
    np.savez(root / "a.npz", x_train=TABLE, x_test=TABLE)
    return root / "a.npz"


def _objects(root: Path) -> Path:
    np.savez(root / "a.npz", x_train=np.array([{}], dtype=object), y_train=LABELS[:1])
    return root / "a.npz"


def _holes(root: Path) -> Path:
    table = frame()
    table.loc[3, "b"] = None
    table.to_csv(root / "a.csv", index=False)
    return root / "a.csv"


def csv_file(root: Path) -> Path:
    csv_with_names(root)
    return root / "pets.csv"


def _many_texts(root: Path) -> Path:
    frame().assign(name=[f"n{i}" for i in range(60)]).to_csv(root / "a.csv", index=False)
    return root / "a.csv"


def _strangers(root: Path) -> Path:
    frame().to_csv(root / "train.csv", index=False)
    frame().replace("owl", "yak").to_csv(root / "test.csv", index=False)
    return root


def _file(name: str, content: bytes = b"nothing") -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / name).write_bytes(content)
        return root / name

    return write


def _loose(root: Path) -> Path:
    save(root / "a.png", PICTURES[0])
    return root


def _torchvision(root: Path) -> Path:
    (root / "MNIST" / "raw").mkdir(parents=True)
    return root


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (_broken_npz, {}, "of train there are no targets, such as y_train; it holds x_train, x_test"),
        (_objects, {}, "holds Python objects, which would have to be run"),
        (_holes, {}, r"column 'b' has 1 empty cells \(NaN, \?\): fill them, or .* --set data.drop=b"),
        (csv_file, {"label": ("kinds",)}, "data.label = 'kinds': no such column; did you mean 'kind'"),
        (_many_texts, {"label": ("kind",)}, "column 'name' holds 60 different texts, .* --set data.drop=name"),
        (_strangers, {}, "test has the class 'yak', of which train has no row"),
        (_file("a.zip"), {}, "is packed; unpack it"),
        (_file("a.pt"), {}, "is a pickle, which would run code"),
        (_file("a.csv", b""), {}, "is empty"),
        (_file("a.npz"), {}, "can't be read as a NumPy archive|holds Python objects"),
        (_file("a.parquet"), {}, "or no Parquet file"),
        (_file("a.txt"), {}, "is no data set that is known here; give a folder of images"),
        (_loose, {}, "1 images outside class folders"),
        (_torchvision, {}, "use --data mnist --data-root"),
        (lambda root: root / "none.csv", {}, "there is no such file or folder"),
    ],
)
def test_what_fits_no_door_is_told_in_a_line(
    tmp_path: Path, write: Callable[[Path], Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        opened(write(tmp_path), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["label", "drop", "crop", "grey", "test", "targets", "standardize", "factory"])
def test_a_key_that_a_named_set_does_not_read_is_refused(key: str) -> None:
    value = {"label": ("a",), "drop": ("a",), "test": 0.3, "targets": "numbers", "standardize": False, "factory": "a:b"}
    with pytest.raises(UserError, match=rf"data.{key} = .*changes nothing with data.name = 'digits'"):
        DataConfig(**{key: value.get(key, True)}).check()
