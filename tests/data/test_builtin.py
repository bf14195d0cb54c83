"""The named data sets against their own libraries, and what is said of missing or damaged files."""

from __future__ import annotations

import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets
import torchvision

from glr_dist.data import builtin
from glr_dist.data.config import DataConfig
from glr_dist.data.dataset import open_dataset
from glr_dist.errors import UserError


def test_digits_are_scikit_learns_cut_evenly_by_class() -> None:
    splits, classes = builtin.load("digits", "")
    (train, train_labels), (test, test_labels) = splits["train"], splits["test"]
    bunch = sklearn.datasets.load_digits()
    assert len(train) + len(test) == len(bunch.images)
    assert classes == tuple("0123456789")
    found = sorted(map(bytes, np.concatenate([train, test]).reshape(-1, 64)))
    assert found == sorted(map(bytes, np.rint(bunch.data / 16 * 255).astype(np.uint8)))
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}
    shares = np.bincount(test_labels) / (np.bincount(train_labels) + np.bincount(test_labels))
    assert np.abs(shares - 0.2).max() < 0.01
    assert train.min() == 0
    assert train.max() == 255


@pytest.mark.parametrize("split", ["train", "test"])
def test_mnist_rows_equal_torchvisions_byte_for_byte(mnist_root: Path, tmp_path: Path, split: str) -> None:
    config = DataConfig(name="mnist", root=str(mnist_root), cache=str(tmp_path), validation=0.0)
    data = open_dataset(config)
    rows = []
    for x, y in data.batches(split, 5000):
        pixels = (x * 255).round().byte().numpy()
        assert x.numpy().tobytes() == (pixels.astype(np.float32) / np.float32(255)).tobytes()
        rows += [image.tobytes() + bytes([label]) for image, label in zip(pixels, y.tolist(), strict=True)]
    reference = torchvision.datasets.MNIST(str(mnist_root), train=split == "train")
    pairs = zip(reference.data.numpy(), reference.targets.tolist(), strict=True)
    assert sorted(rows) == sorted(image.tobytes() + bytes([label]) for image, label in pairs)
    assert data.shape == (1, 28, 28)
    assert len(data.sizes("train")) == 8


def _write_cifar(root: Path) -> np.ndarray:
    """Seven rows in CIFAR-10's own layout: five training batches of one row, one test batch of two."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 3072), dtype=np.uint8)
    parts = {f"data_batch_{i}": slice(i - 1, i) for i in range(1, 6)} | {"test_batch": slice(5, 7)}
    for file, part in parts.items():
        labels = list(range(part.start, part.stop))
        (folder / file).write_bytes(pickle.dumps({"data": pixels[part], "labels": labels}))
    meta = {"label_names": ["plane", "car", "bird", "cat", "deer", "dog", "frog"]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta))
    return pixels


def test_cifar_is_red_green_blue_planes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _write_cifar(tmp_path)
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "_check_integrity", lambda _: True)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})
    splits, classes = builtin.load("cifar10", str(tmp_path))
    assert classes[6] == "frog"
    assert splits["train"][0].tobytes() == pixels[:5].tobytes()
    assert splits["test"][0].shape == (2, 3, 32, 32)
    assert splits["test"][0].tobytes() == pixels[5:].tobytes()
    assert splits["test"][1].tolist() == [5, 6]


def test_wrong_files_of_cifar_are_refused(tmp_path: Path) -> None:
    _write_cifar(tmp_path)
    with pytest.raises(UserError, match=r"cifar10 files in .*--data-root.* damaged"):
        builtin.load("cifar10", str(tmp_path))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_a_root_without_data_names_the_option_and_what_was_looked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"--data-root.* holds no {name}: looked for .*{tmp_path.name}"):
        open_dataset(DataConfig(name=name, root=str(tmp_path), cache=str(tmp_path / "cache")))


def test_a_wrong_root_is_noticed_even_when_the_cache_is_warm(tmp_path: Path, mnist_root: Path) -> None:
    cache = str(tmp_path / "cache")
    open_dataset(DataConfig(name="mnist", root=str(mnist_root), cache=cache))
    with pytest.raises(UserError, match="--data-root"):
        open_dataset(DataConfig(name="mnist", root=str(tmp_path), cache=cache))


def test_files_cut_short_are_refused(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (raw / file).write_bytes(bytes.fromhex("00000803 0000000a 0000001c 0000001c") + b"\1" * 100)
    for file in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        (raw / file).write_bytes(bytes.fromhex("00000801 0000000a") + b"\1" * 10)
    with pytest.raises(UserError, match=r"mnist files in .*--data-root.* cut short or damaged"):
        builtin.load("mnist", str(tmp_path))


def test_a_failed_download_says_so_in_one_line_and_names_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(_: object) -> None:
        raise URLError("Name or service\nnot known")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", offline)
    with pytest.raises(UserError, match=r"mnist could not be downloaded .*--data-root DIR") as caught:
        builtin.load("mnist", "")
    assert "\n" not in str(caught.value)
    output = capsys.readouterr()
    assert output.out == ""
    assert "downloading mnist" in output.err
