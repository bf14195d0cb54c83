"""`prepare`: named sets and folders of pictures become shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glr_dist.data.config import DataConfig
from glr_dist.data.dataset import open_dataset
from glr_dist.data.prepare import prepare
from glr_dist.errors import UserError


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Train: cat, dog, owl with two grey pictures each; test: dog and owl only."""
    root = tmp_path / "pets"
    for label, name in enumerate(("cat", "dog", "owl")):
        for i in range(2):
            save(root / "train" / name / f"{i}.png", np.full((3, 5), 100 * label + i, np.uint8))
        if name != "cat":
            save(root / "test" / name / "0.png", np.full((3, 5), 100 * label + 7, np.uint8))
    return root


def test_pictures_keep_pixels_and_labels_even_when_test_lacks_a_class(pictures: Path, tmp_path: Path) -> None:
    report = prepare(str(pictures), str(tmp_path / "out"), shards=2)
    assert report["rows"] == {"train": 6, "test": 2}
    assert report["files"] == {"train": 2, "test": 1}
    assert (report["name"], report["shape"], report["classes"]) == ("pets", [1, 3, 5], ["cat", "dog", "owl"])
    assert report["bytes"] == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    data = open_dataset(DataConfig(name="parquet", root=str(tmp_path / "out"), validation=0.0))
    assert data.fingerprint == report["fingerprint"]
    for split, offset in (("train", {0, 1}), ("test", {7})):
        for x, y in data.batches(split, 10):
            pixels = (x * 255).round().long()
            assert set((pixels[:, 0, 0, 0] - 100 * y).tolist()) == offset


def test_one_coloured_picture_makes_all_three_channels(pictures: Path, tmp_path: Path) -> None:
    colour = np.zeros((3, 5, 3), np.uint8)
    colour[..., 1] = 200
    save(pictures / "train" / "cat" / "0.png", colour)
    report = prepare(str(pictures), str(tmp_path / "out"), shards=1)
    assert report["shape"] == [3, 3, 5]
    data = open_dataset(DataConfig(name="parquet", root=str(tmp_path / "out"), validation=0.0))
    ((x, _),) = data.batches("train", 10)
    corners = sorted((x[:, :, 2, 4] * 255).round().int().tolist())
    assert corners == [[0, 200, 0], [1] * 3, [100] * 3, [101] * 3, [200] * 3, [201] * 3]


def test_a_named_set_goes_where_it_is_told(tmp_path: Path) -> None:
    report = prepare("digits", str(tmp_path / "out"), shards=3)
    assert (report["files"], sum(report["rows"].values())) == ({"train": 3, "test": 1}, 1797)


def _no_train(root: Path) -> None:
    (root / "train").rename(root / "training")


def _empty_class(root: Path) -> None:
    (root / "train" / "emu").mkdir()


def _strange_class(root: Path) -> None:
    save(root / "test" / "yak" / "0.png", np.zeros((3, 5), np.uint8))


def _other_size(root: Path) -> None:
    save(root / "train" / "dog" / "1.png", np.zeros((4, 5), np.uint8))


def _sixteen_bits(root: Path) -> None:
    save(root / "train" / "dog" / "1.png", np.zeros((3, 5), np.uint16))


def _no_picture(root: Path) -> None:
    (root / "train" / "dog" / "1.png").write_bytes(b"not a picture")


def _cut_short(root: Path) -> None:
    path = root / "train" / "dog" / "1.png"
    save(path, np.random.default_rng(0).integers(0, 256, (3, 5), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:45])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_no_train, "has no folder train"),
        (_empty_class, "emu"),
        (_strange_class, "yak is a class that .*train has not"),
        (_other_size, r"1.png is \(4, 5\) pixels"),
        (_sixteen_bits, "1.png has pixels of mode 'I;16'"),
        (_no_picture, "1.png is no readable image"),
        (_cut_short, "1.png is cut short"),
    ],
)
def test_folders_that_do_not_fit_are_refused_in_one_line(
    pictures: Path, tmp_path: Path, change: object, message: str
) -> None:
    change(pictures)  # type: ignore[operator]
    with pytest.raises(UserError, match=message) as caught:
        prepare(str(pictures), str(tmp_path / "out"), shards=2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_source_is_told_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'digit' is neither a folder nor a data set: did you mean 'digits'"):
        prepare("digit", str(tmp_path / "out"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_put_on_white(mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A black figure on nothing: dark on light, and not all black."""
    alpha = np.zeros((4, 4), np.uint8)
    alpha[1:3, 1:3] = 255
    figure = Image.fromarray(np.dstack([np.zeros((4, 4), np.uint8), alpha]), "LA").convert("RGBA").convert(mode)
    for split in ("train", "test"):
        (tmp_path / "pets" / split / "cat").mkdir(parents=True)
        figure.save(tmp_path / "pets" / split / "cat" / "0.png")
    if mode == "P":
        assert figure.has_transparency_data
    prepare(str(tmp_path / "pets"), str(tmp_path / "out"), shards=1)
    ((x, _),) = open_dataset(DataConfig(name="parquet", root=str(tmp_path / "out"), validation=0.0)).batches("train", 4)
    expected = np.where(alpha > 0, 0.0, 1.0)
    assert all(np.array_equal(channel, expected) for channel in x[0].numpy())
    assert "note: 2 of 2 images are transparent in places; they are put on white" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["val", "validation"])
def test_a_folder_of_validation_pictures_is_not_left_out_in_silence(name: str, pictures: Path, tmp_path: Path) -> None:
    save(pictures / name / "cat" / "0.png", np.zeros((3, 5), np.uint8))
    with pytest.raises(UserError, match=rf"{name} would be left out: validation rows are a share of the training rows"):
        prepare(str(pictures), str(tmp_path / "out"))
