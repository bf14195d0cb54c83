"""The user's own arrays behind the same interface as shards."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError

X = torch.arange(30 * 4, dtype=torch.float64).reshape(30, 2, 2)
Y = torch.arange(30) % 3


def collect(data: DataSource, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    xs, ys = zip(*data.batches(split, 4), strict=True)
    return torch.cat(xs), torch.cat(ys)


def test_rows_of_any_shape_are_split_without_loss() -> None:
    data = ArrayDataset((X, Y), (X[:5] + 1000, Y[:5]), validation=0.2, shards=4)
    assert (data.shape, data.classes) == ((2, 2), ("0", "1", "2"))
    assert data.sizes("train") == (6, 6, 6, 6)
    assert data.sizes("validation") == (2, 2, 1, 1)
    assert data.sizes("test") == (1,) or data.count("test") == 5
    parts = [collect(data, split) for split in ("train", "validation")]
    x, y = (torch.cat(column) for column in zip(*parts, strict=True))
    order = x[:, 0, 0].argsort()
    assert x[order].equal(X.float())
    assert y[order].equal(Y)
    test_x, test_y = collect(data, "test")
    order = test_x[:, 0, 0].argsort()
    assert test_x[order].equal((X[:5] + 1000).float())
    assert test_y[order].equal(Y[:5])


def test_bytes_are_divided_by_255_and_a_test_split_is_optional() -> None:
    data = ArrayDataset((np.full((9, 3), 255, np.uint8), [0] * 9), shards=2, classes=["only", "never"])
    assert collect(data, "train")[0].eq(1).all()
    assert (data.sizes("test"), data.classes) == ((), ("only", "never"))


def test_fewer_rows_than_shards_make_fewer_shards() -> None:
    assert ArrayDataset((X[:3], Y[:3]), validation=0).sizes("train") == (1, 1, 1)


def test_rows_are_fresh_and_the_callers_arrays_stay_their_own() -> None:
    mine = X.float().clone()
    data = ArrayDataset((mine, Y), shards=1, validation=0)
    mine.zero_()
    first, _ = data.rows("train", 0, np.array([0, 1]))
    first.fill_(-1)
    again, _ = data.rows("train", 0, np.array([0, 1]))
    assert again.ge(0).all()
    assert again.sum() > 0


def test_same_arrays_same_fingerprint_and_one_value_changes_it() -> None:
    changed = X.clone()
    changed[7, 1, 1] += 0.5
    marks = [ArrayDataset((x, Y)).fingerprint for x in (X, X.numpy(), changed)]
    assert marks[0] == marks[1] != marks[2]


def test_a_pickled_copy_gives_the_same_rows() -> None:
    data = ArrayDataset((X, Y))
    assert collect(pickle.loads(pickle.dumps(data)), "train")[0].equal(collect(data, "train")[0])


NAN = X.clone()
NAN[12, 0, 1] = float("nan")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((X, Y[:29]), "train has 30 rows of features and 29 labels"),
        ((NAN, Y), "train, row 12: not finite"),
        ((X * 1e300, Y), "train, row 0: not finite in float32"),
        ((X, Y - 1), "train, row 0: label -1"),
        ((X, torch.full((30, 2), torch.nan)), "train's targets, row 0: not finite"),
        ((X > 0, Y), "x is bool"),
        ((X[:0], Y[:0]), "train has no rows"),
        ((X,), "give a pair"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "rows of unequal length"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(train: tuple[object, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ArrayDataset(train)
    assert "\n" not in str(caught.value)


def test_test_arrays_are_checked_too() -> None:
    with pytest.raises(UserError, match=r"test rows have shape \[4\]"):
        ArrayDataset((X, Y), (X.reshape(30, 4), Y))
    with pytest.raises(UserError, match="test, row 2: label 2 is out of range"):
        ArrayDataset((X, Y % 2), (X, Y), classes=["a", "b"])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"validation": 1.0}, "validation is 1.0"), ({"shards": 0}, "shards is 0"), ({"validation": 0.97}, "lower it")],
)
def test_options_that_cannot_be_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ArrayDataset((X, Y), **options)  # type: ignore[arg-type]


def test_labels_that_make_more_classes_than_anybody_meant_are_told_or_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ArrayDataset((X, Y + 1))
    assert len(data.classes) == 4
    assert "note: labels go up to 3, so there are 4 classes, of which 1 have no row (0)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"^a label is 2147483647, which would make 2147483648 classes of 30 rows"):
        ArrayDataset((X, torch.where(Y == 2, 2**31 - 1, Y)))
    assert len(ArrayDataset((X, Y), classes=("a", "b", "c", "d")).classes) == 4
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("labels", [Y.bool(), [str(y) for y in Y]], ids=["bool", "texts"])
def test_targets_that_are_neither_class_indices_nor_numbers_are_refused(labels: object) -> None:
    with pytest.raises(UserError, match=r"^train: y is .* \[30\]: give one integer class index a row"):
        ArrayDataset((X, labels))


@pytest.mark.parametrize(
    ("targets", "width"),
    [(torch.rand(30), 1), ([0.5] * 30, 1), (torch.rand(30, 4), 4), (torch.eye(3)[Y] > 0, 3), (torch.rand(30, 2, 2), 4)],
    ids=["one", "list", "several", "several labels", "of any shape"],
)
def test_targets_may_be_numbers(targets: object, width: int) -> None:
    data = ArrayDataset((X, targets), validation=0.2)
    assert (data.numbers, data.classes) == (True, tuple(map(str, range(width))))
    x, y = collect(data, "train")
    assert (y.dtype, y.shape) == (torch.float32, (len(x), width))
    every = torch.as_tensor(targets).float().view(30, width)
    rows = [int((row == X).flatten(1).all(1).nonzero()[0]) for row in x]
    assert torch.equal(y, every[rows])


def test_whole_numbers_stay_whole_and_validation_rows_may_be_given() -> None:
    tokens = torch.arange(60).view(30, 2)
    data = ArrayDataset((tokens, Y), validation=(tokens[:7] + 100, Y[:7]))
    assert (data.count("train"), data.count("validation")) == (30, 7)
    x, y = collect(data, "validation")
    assert x.dtype == torch.int64
    assert sorted(zip(x[:, 0].tolist(), y.tolist(), strict=True)) == [(100 + 2 * i, i % 3) for i in range(7)]
    with pytest.raises(UserError, match="test: y are numbers, those of train class indices"):
        ArrayDataset((tokens, Y), (tokens, Y.float()))
