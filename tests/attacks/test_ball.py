"""What is an image, what a ball, and when a network is fooled."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_images import images, network
from torch import Tensor

from glr_dist.attacks.attack import named_attack
from glr_dist.attacks.ball import check_images, fooled
from glr_dist.errors import UserError

SEED = np.random.SeedSequence(11)


def test_equal_logits_go_to_the_first_class() -> None:
    tied = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert fooled(lambda x: tied, torch.zeros(2, 1), torch.tensor([0, 0])).tolist() == [False, True]
    assert fooled(lambda x: tied, torch.zeros(2, 1), torch.tensor([1, 1])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (torch.zeros(2, 4, dtype=torch.uint8), "uint8; must be float32"),
        (torch.zeros(2, 4, dtype=torch.float64), "float64; must be float32"),
        (torch.zeros(4), r"shape \[4\]"),
        (torch.zeros(0, 4), r"shape \[0, 4\] holds none"),
        (torch.tensor([[0.0, math.nan]]), "NaN"),
        (torch.tensor([[0.0, 255.0]]), r"pixels from 0 to 255; they must be in \[0, 1\]"),
        (torch.tensor([[-0.1, 1.0]]), r"pixels from -0\.1 to 1"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(x: Tensor, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        check_images(x)
    assert "\n" not in str(caught.value)


def test_labels_of_another_kind_are_refused() -> None:
    x, labels = images(2)
    for wrong in (labels.int(), labels[:1], labels.float()):
        with pytest.raises(UserError, match=r"labels: .* must be int64 \[2\]"):
            named_attack("fgsm", epsilon=0.1).run(network("relu"), x, wrong, SEED)
