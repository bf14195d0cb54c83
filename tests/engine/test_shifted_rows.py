"""Images moved by some pixels before all else: by whole pixels, zeros coming in, each way as often as the others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from small_runs import digits, small_task
from torch import Tensor

from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine.rows import augmented_rows
from glr_dist.errors import UserError

SHIFT = {"augment.shift": 2, "units.rows": 32}


def moved(image: Tensor, down: int, right: int) -> Tensor:
    """[1, 8, 8] moved by hand."""
    wide = torch.zeros(1, 12, 12)
    wide[:, 2 + down : 10 + down, 2 + right : 10 + right] = image
    return wide[:, 2:10, 2:10]


def test_every_image_is_moved_by_whole_pixels_and_each_way_is_taken() -> None:
    task = small_task(SHIFT)
    ways: Counter[tuple[int, int]] = Counter()
    for step in range(20):
        for block in task.plan.schedule.blocks(step):
            x, labels = augmented_rows(task, block, task.model)
            clean, own = task.rows(block)
            assert torch.equal(labels, own)
            for image, before in zip(x, clean, strict=True):
                found = [
                    (down, right)
                    for down in range(-2, 3)
                    for right in range(-2, 3)
                    if torch.equal(image, moved(before, down, right))
                ]
                assert found
                ways[found[0]] += len(found) == 1
    assert len(ways) == 25
    assert min(ways.values()) > sum(ways.values()) / 25 / 2


def test_rows_are_the_same_again_and_others_in_the_next_epoch() -> None:
    task = small_task(SHIFT)
    first = task.plan.schedule.blocks(0)[0]
    again = augmented_rows(task, first, task.model)[0]
    assert torch.equal(augmented_rows(task, first, task.model)[0], again)
    assert not torch.equal(again, task.rows(first)[0])


def test_examples_that_are_no_images_are_refused() -> None:
    x, y = (part.numpy() for part in digits().rows("train", 0, np.arange(300)))
    flat = ArrayDataset((x.reshape(300, -1), y), (x.reshape(300, -1)[:50], y[:50]), shards=1)
    with pytest.raises(UserError, match=r"augment.shift = 2: moves images \[C, H, W\], the data has shape \[64\]"):
        small_task(SHIFT, data=flat)
