"""What a path is: layouts that people have, each written by its format's own library, become the rows that were written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from layouts import (
    KINDS,
    LABELS,
    LAYOUTS,
    PICTURES,
    RNG,
    TABLE,
    class_folders,
    frame,
    hugging_face,
    npz,
    npz_of_medmnist,
    opened,
    rows,
    save,
    split_folders,
)
from PIL import Image

from glr_dist.data.config import DataConfig
from glr_dist.data.dataset import open_dataset
from glr_dist.data.prepare import prepare
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError


def same_pictures(data: DataSource, count: int = 60, split: str = "train") -> None:
    """Each picture stands beside its own label, whatever the order."""
    assert (data.shape, data.classes) == ((1, 6, 6), KINDS)
    x, y = rows(data, split)
    found = sorted((round(float(p.sum() * 255)), int(label)) for p, label in zip(x, y, strict=True))
    assert found == sorted(
        (int(p.sum()), int(label)) for p, label in zip(PICTURES[:count], LABELS[:count], strict=True)
    )


def same_table(data: DataSource, split: str = "train") -> None:
    assert (data.shape, data.classes) == ((4,), KINDS)
    x, y = rows(data, split)
    order, written = np.lexsort(x.T), np.lexsort(TABLE.T)
    assert np.allclose(x[order], TABLE[written], atol=1e-5)
    assert np.array_equal(y[order], LABELS[written])


@pytest.mark.parametrize(("write", "name", "what"), LAYOUTS, ids=lambda value: getattr(value, "__name__", None))
def test_what_was_written_is_what_is_read(
    write: Callable[[Path], dict[str, Any]],
    name: str,
    what: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = write(tmp_path)
    data = opened(tmp_path / name, **options)
    line = capsys.readouterr().err
    assert line.startswith("data: ")
    assert "60 training" in line
    if what.startswith("numbered"):
        assert data.classes == ("0", "1", "2")
        data.classes = KINDS
    (same_pictures if what.endswith("pictures") else same_table)(data)
    if write in (hugging_face, npz, npz_of_medmnist):
        same_pictures(data, 30, "test")
    assert data.count("validation") == {npz_of_medmnist: 30, split_folders: 60}.get(write, 0)
    assert opened(tmp_path / name, **options).fingerprint == data.fingerprint


class Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    """A torch Dataset as torchvision has them: images of PIL's."""

    def __len__(self) -> int:
        return 60

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return Image.fromarray(PICTURES[number]), int(LABELS[number])


def test_a_torch_dataset_comes_from_a_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from glr_dist.data.arrays import ArrayDataset\n"
        "import pets\n"
        "def make(): return pets.Pictures(), pets.Pictures()\n"
        "def wrong(): return 3\n"
    )
    (tmp_path / "pets.py").write_text(f"import sys\nPictures = sys.modules[{__name__!r}].Pictures\n")
    monkeypatch.chdir(tmp_path)
    data = open_dataset(DataConfig(name="factory", factory="mine.py:make", validation=0.0))
    data.classes = KINDS
    same_pictures(data)
    same_pictures(data, split="test")
    with pytest.raises(UserError, match="returned int; return a torch Dataset"):
        open_dataset(DataConfig(name="factory", factory="mine.py:wrong"))


def test_a_folder_of_shards_is_what_it_is(tmp_path: Path) -> None:
    class_folders(tmp_path / "pets" / "train")
    prepare(str(tmp_path / "pets"), str(tmp_path / "shards"), shards=2)
    same_pictures(opened(tmp_path / "shards"))


def test_pictures_are_cut_scaled_turned_made_grey_and_put_on_white(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 255  # white in the middle
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    save(tmp_path / "one" / "wide.png", wide)
    save(tmp_path / "one" / "tall.png", wide, exif=exif)
    clear = np.zeros((5, 5, 4), np.uint8)  # black, and not to be seen
    save(tmp_path / "two" / "clear.png", clear)
    save(tmp_path / "two" / "other.png", clear)
    data = opened(tmp_path, test=0.0, resize=2, crop=True, grey=True)
    assert data.shape == (1, 2, 2)
    assert np.array_equal(rows(data)[0], np.ones((4, 1, 2, 2), np.float32))
    line = capsys.readouterr().err
    assert "2 of 4 images are transparent in places; they are put on white" in line
    assert "1 of 4 images are turned as their EXIF says" in line
    with pytest.raises(UserError, match=r"make all images the same size, such as by --set data.resize=32"):
        opened(tmp_path)


def test_texts_become_columns_and_numbers_are_standardized_by_the_training_rows(tmp_path: Path) -> None:
    table = pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "colour": ["red", "blue", "red", "blue"], "y": [0, 1, 0, 1]})
    table.to_csv(tmp_path / "train.csv", index=False)
    table.assign(size=[9.0] * 4).to_csv(tmp_path / "test.csv", index=False)
    data = opened(tmp_path)
    assert data.shape == (3,)
    x = rows(data)[0]
    assert x[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert x[:, 0].std() == pytest.approx(1, abs=1e-6)
    assert np.array_equal(np.sort(x[:, 1:].sum(1)), np.ones(4))
    assert rows(data, "test")[0][0, 0] == pytest.approx((9 - 2.5) / np.std([1, 2, 3, 4]))


def test_a_column_of_fractions_or_several_columns_are_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": TABLE[:, 0], "b": TABLE[:, 1], "c": LABELS, "d": LABELS % 2})
    table.to_csv(tmp_path / "t.csv", index=False)
    data = opened(tmp_path / "t.csv", label=("a",))
    assert (data.numbers, data.classes, data.shape) == (True, ("a",), (3,))
    data = opened(tmp_path / "t.csv", label=("c", "d"), test=0.0)
    assert (data.numbers, data.classes) == (True, ("c", "d"))
    assert rows(data)[1].dtype == np.float32
    data = opened(tmp_path / "t.csv", label=("c",), targets="numbers", drop=("d",))
    assert (data.numbers, data.classes, data.shape) == (True, ("c",), (2,))


def test_lists_of_whole_numbers_stay_whole_numbers(tmp_path: Path) -> None:
    tokens = RNG.integers(0, 1000, (20, 7))
    pd.DataFrame({"input_ids": list(tokens), "label": LABELS[:20]}).to_parquet(tmp_path / "t.parquet")
    data = opened(tmp_path / "t.parquet", test=0.0)
    x, _ = rows(data)
    assert x.dtype == np.int64
    assert sorted(map(tuple, x)) == sorted(map(tuple, tokens))


def test_the_test_split_is_an_equal_share_of_each_class(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "pets.csv", index=False)
    data = opened(tmp_path / "pets.csv", test=0.25)
    assert np.array_equal(np.bincount(rows(data, "test")[1]), [5, 5, 5])
