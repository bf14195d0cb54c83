"""What a path is: layouts that people have, each written by its format's own library, become the rows that were written."""

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
import pytest
import torch
from PIL import Image
from sklearn.datasets import dump_svmlight_file

from glr_dist.data.config import DataConfig
from glr_dist.data.dataset import open_dataset
from glr_dist.data.prepare import prepare
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError

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
