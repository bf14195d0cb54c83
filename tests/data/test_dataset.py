"""Reading shards back as tensors: values, splits, pickling, memory."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from glr_dist.data import builtin
from glr_dist.data.config import DataConfig
from glr_dist.data.dataset import Dataset, open_dataset
from glr_dist.data.shards import open_shards, write_shards
from glr_dist.errors import UserError

ROWS = 43


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """43 training and 9 test images of 2x4x6, each with its own number in its first two pixels."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, n in (("train", ROWS), ("test", 9)):
        images = rng.integers(0, 256, (n, 2, 4, 6), dtype=np.uint8)
        images[:, 0, 0, 0] = np.arange(n)
        images[:, 0, 0, 1] = split == "test"
        splits[split] = (images, np.arange(n) % 5)
    write_shards(tmp_path / "set", splits, name="set", classes=tuple("abcde"), shards=4)
    return tmp_path / "set"


def open_folder(folder: Path, **fields: object) -> Dataset:
    return open_dataset(DataConfig(name="parquet", root=str(folder), **fields))  # type: ignore[arg-type]


def numbers(dataset: Dataset, split: str) -> list[int]:
    return [int(n) for x, _ in dataset.batches(split, 7) for n in (x[:, 0, 0, 0] * 255).round()]


def test_splits_are_disjoint_and_complete_and_labels_stay_with_their_images(folder: Path) -> None:
    data = open_folder(folder, validation=0.3)
    train, validation, test = (numbers(data, split) for split in ("train", "validation", "test"))
    assert sorted(train + validation) == list(range(ROWS))
    assert sorted(test) == list(range(9))
    assert data.sizes("train") == (8, 8, 8, 7)
    assert data.sizes("validation") == (3, 3, 3, 3)
    assert (data.count("train"), data.count("validation"), data.count("test")) == (31, 12, 9)
    for split in ("train", "validation", "test"):
        for x, y in data.batches(split, 10):
            assert ((x[:, 0, 0, 0] * 255).round().long() % 5).equal(y)
            assert (x[:, 0, 0, 1] * 255).eq(split == "test").all()


def test_no_validation_leaves_everything_to_train(folder: Path) -> None:
    data = open_folder(folder, validation=0.0)
    assert data.sizes("validation") == ()
    assert sorted(numbers(data, "train")) == list(range(ROWS))


def test_batches_span_shards_with_fixed_shapes_and_agree_with_rows(folder: Path) -> None:
    data = open_folder(folder)
    batches = list(data.batches("train", 15))
    assert [len(x) for x, _ in batches] == [15, 15, 9]
    by_shard = [data.rows("train", shard, np.arange(n)) for shard, n in enumerate(data.sizes("train"))]
    for column in (0, 1):
        whole = torch.cat([pair[column] for pair in by_shard])
        assert torch.cat([pair[column] for pair in batches]).equal(whole)


def test_rows_picks_in_the_order_asked_and_returns_fresh_contiguous_tensors(folder: Path) -> None:
    data = open_folder(folder)
    everything, _ = data.rows("train", 1, np.arange(data.sizes("train")[1]))
    x, y = data.rows("train", 1, np.array([4, 0, 4]))
    assert x.equal(everything[[4, 0, 4]])
    assert (x.dtype, y.dtype, x.is_contiguous()) == (torch.float32, torch.int64, True)
    x.fill_(-1)
    assert data.rows("train", 1, np.array([4, 0, 4]))[0].equal(everything[[4, 0, 4]])
    with pytest.raises(AssertionError):
        data.rows("train", 1, np.array([data.sizes("train")[1]]))


def test_every_opening_and_every_process_sees_the_same(folder: Path) -> None:
    first, second = open_folder(folder), pickle.loads(pickle.dumps(open_folder(folder)))
    for split in ("train", "validation", "test"):
        for (x, y), (u, v) in zip(first.batches(split, 8), second.batches(split, 8), strict=True):
            assert x.equal(u)
            assert y.equal(v)


def test_halving_is_the_mean_of_each_block(folder: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (20, 1, 28, 28), dtype=np.uint8)
    write_shards(
        folder.parent / "square", {"train": (images, np.zeros(20, np.int64))}, name="square", classes=("a",), shards=2
    )
    full, half = (open_folder(folder.parent / "square", resize=side, validation=0.0) for side in (0, 14))
    assert (full.shape, half.shape) == ((1, 28, 28), (1, 14, 14))
    for (x, _), (small, _) in zip(full.batches("train", 6), half.batches("train", 6), strict=True):
        blocks = x.double().numpy().reshape(-1, 1, 14, 2, 14, 2).mean(axis=(3, 5))
        np.testing.assert_allclose(small.numpy(), blocks, atol=1e-6)
        assert small.is_contiguous()


def test_a_resized_image_has_the_same_bits_alone_and_in_a_batch(folder: Path) -> None:
    data = open_folder(folder, resize=5)
    together, _ = data.rows("train", 0, np.arange(9))
    alone = torch.cat([data.rows("train", 0, np.array([i]))[0] for i in range(9)])
    assert together.shape == (9, 2, 5, 5)
    assert alone.equal(together)


def test_pickle_is_small_even_after_reading(folder: Path) -> None:
    data = open_folder(folder)
    list(data.batches("train", 8))
    copy = pickle.loads(pickle.dumps(data))
    assert len(pickle.dumps(data)) < 20_000
    assert (copy.name, copy.shape, copy.classes, copy.fingerprint) == (
        "set",
        (2, 4, 6),
        tuple("abcde"),
        data.fingerprint,
    )


def test_decoded_shards_are_kept_up_to_the_bound_and_the_oldest_goes_first(folder: Path) -> None:
    """What is kept can be read though the files are gone."""
    one_shard = 11 * (48 + 8)  # rows x (pixels and label), bytes
    config = DataConfig(name="parquet", root=str(folder))
    two, one = (Dataset(open_shards(folder), config, cache_bytes=size) for size in (2 * one_shard, 1))
    for data, shards in ((two, (0, 1, 0, 2)), (one, (0, 1))):
        for shard in shards:
            data.rows("train", shard, np.array([0]))
    folder.rename(folder.parent / "moved")

    def kept(data: Dataset) -> Iterator[int]:
        for shard in range(4):
            with suppress(UserError):
                data.rows("train", shard, np.array([0]))
                yield shard

    assert (list(kept(two)), list(kept(one))) == ([0, 2], [1])


def test_a_machine_without_the_prepared_shards_prepares_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "driver"))
    data = open_dataset(DataConfig(resize=4))
    expected, _ = data.rows("train", 3, np.arange(5))
    travelled = pickle.dumps(data)
    (tmp_path / "driver").rename(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "worker"))
    assert pickle.loads(travelled).rows("train", 3, np.arange(5))[0].equal(expected)
    assert (tmp_path / "worker" / "glr_dist").is_dir()


def test_other_data_on_a_worker_is_refused(folder: Path) -> None:
    travelled = pickle.dumps(open_folder(folder))
    folder.rename(folder.parent / "moved")
    with pytest.raises(UserError, match="is not a folder"):
        pickle.loads(travelled).rows("train", 0, np.array([0]))
    other = {"train": (np.zeros((5, 2, 4, 6), np.uint8), np.zeros(5, np.int64))}
    write_shards(folder, other, name="set", classes=tuple("abcde"), shards=2)
    with pytest.raises(UserError, match="holds other data"):
        pickle.loads(travelled).rows("train", 3, np.array([0]))


def test_a_warm_cache_is_not_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(cache=str(tmp_path))
    mark = open_dataset(config).fingerprint
    monkeypatch.setattr(builtin, "load", lambda *_: pytest.fail("read again"))
    assert open_dataset(config).fingerprint == mark


def test_a_damaged_cache_says_which_file_and_what_to_remove(tmp_path: Path) -> None:
    config = DataConfig(cache=str(tmp_path))
    open_dataset(config)
    (shard,) = tmp_path.glob("digits-8-*/train-00004-of-00008.parquet")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"train-00004-of-00008.parquet is cut short.* in the cache, remove"):
        open_dataset(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "minst"}, "data.name is 'minst': did you mean 'mnist'"),
        ({"name": "parquet"}, "data.root is empty"),
        ({"validation": 1.0}, "data.validation is 1.0"),
        ({"validation": -0.1}, "data.validation is -0.1"),
        ({"validation": float("nan")}, "data.validation is nan"),
        ({"resize": -14}, "data.resize is -14"),
        ({"shards": 0}, "data.shards is 0"),
    ],
)
def test_config_names_the_field_the_value_and_the_fix(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_dataset(DataConfig(**fields))  # type: ignore[arg-type]


def test_holding_everything_out_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="leaves no training rows"):
        open_folder(folder, validation=0.99)
