"""What a data set must hold, and what its fingerprint sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glr_dist.data.content import check_finite, check_labels, fingerprint, take
from glr_dist.errors import UserError

IMAGES = np.arange(2 * 1 * 2 * 2, dtype=np.uint8).reshape(2, 1, 2, 2)
LABELS = np.array([0, 1])


def test_fingerprint_sees_one_pixel_one_label_a_class_name_and_the_shape() -> None:
    def mark(images: np.ndarray = IMAGES, labels: np.ndarray = LABELS, classes: str = "ab") -> str:
        return fingerprint({"train": (images, labels)}, list(classes))

    pixel = IMAGES.copy()
    pixel[1, 0, 1, 1] ^= 1
    marks = {
        mark(),
        mark(images=pixel),
        mark(labels=LABELS[::-1]),
        mark(classes="ac"),
        mark(images=IMAGES.reshape(2, 1, 1, 4)),
        mark(images=IMAGES.astype(np.float32)),
    }
    assert len(marks) == 6
    assert mark() == mark(images=IMAGES.copy())


def test_take_divides_bytes_by_255_and_keeps_floats() -> None:
    x, y = take(np.array([[0], [51], [255]], dtype=np.uint8), np.array([7, 8, 9]), np.array([2, 1]))
    assert x.tolist() == [[1.0], [pytest.approx(0.2)]]
    assert (x.dtype, y.dtype, y.tolist()) == (torch.float32, torch.int64, [9, 8])
    floats = np.array([[-3.5], [2.0]], dtype=np.float32)
    assert take(floats, np.array([0, 1]), np.array([0]))[0].tolist() == [[-3.5]]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_take_returns_contiguous_rows_of_a_transposed_array(dtype: type) -> None:
    pixels: np.ndarray = np.arange(4 * 2 * 2 * 3).reshape(4, 2, 2, 3).astype(dtype)
    x, _ = take(pixels.transpose(0, 3, 1, 2), np.zeros(4, dtype=np.int64), np.array([3, 1]))
    assert x.is_contiguous()
    scale = 255 if dtype == np.uint8 else 1
    expected = pixels[[3, 1]].transpose(0, 3, 1, 2).astype(np.float32) / np.float32(scale)
    assert x.numpy().tobytes() == expected.tobytes()


def test_take_returns_fresh_aligned_memory() -> None:
    floats = np.ones((5, 3), dtype=np.float32)
    index = np.array([1, 2])
    first, _ = take(floats, np.zeros(5, dtype=np.int64), index)
    first.zero_()
    assert take(floats, np.zeros(5, dtype=np.int64), index)[0].eq(1).all()
    assert all(take(floats, np.zeros(5, np.int64), index)[0].data_ptr() % 64 == 0 for _ in range(20))


@pytest.mark.parametrize(("label", "row"), [(3, 1), (-1, 1)])
def test_labels_out_of_range_name_row_and_label(label: int, row: int) -> None:
    with pytest.raises(UserError, match=rf"shard 4, row {row}: label {label} .* 3 classes.* 0 to 2"):
        check_labels(np.array([0, label, 9]), ["a", "b", "c"], "shard 4")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_row(value: float) -> None:
    features = np.zeros((4, 2, 2), dtype=np.float32)
    features[2, 1, 0] = value
    with pytest.raises(UserError, match="test, row 2: not finite"):
        check_finite(features, "test")
