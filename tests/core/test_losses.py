"""Losses: hand-computed values, and what a user's own loss must not return."""

from __future__ import annotations

import math

import pytest
import torch

from glr_dist.core.losses import check_losses, cross_entropy, named_loss, zero_one
from glr_dist.errors import UserError

LOGITS = torch.tensor([[0.0, math.log(3.0)], [2.0, 2.0], [1.0, -1.0]])
LABELS = torch.tensor([1, 1, 0])


def test_cross_entropy_by_hand() -> None:
    # P(label) = 3/4, 1/2, 1/(1 + e^-2)
    expected = torch.tensor([math.log(4 / 3), math.log(2.0), math.log1p(math.exp(-2.0))])
    torch.testing.assert_close(cross_entropy(LOGITS, LABELS), expected)


def test_cross_entropy_of_huge_logits_is_finite() -> None:
    logits = torch.tensor([[1e4, -1e4], [1e30, 0.0]])
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([1, 1])), torch.tensor([2e4, 1e30]))
    torch.testing.assert_close(cross_entropy(logits, torch.tensor([0, 0])), torch.zeros(2))


def test_zero_one_by_hand_with_ties_to_the_lowest_class() -> None:
    loss = zero_one(LOGITS, LABELS)
    assert loss.tolist() == [0.0, 1.0, 0.0]
    assert loss.dtype == torch.float32


def test_names_give_losses_and_a_wrong_one_gets_the_nearest() -> None:
    assert named_loss("cross-entropy") is cross_entropy
    assert named_loss("zero-one") is zero_one
    with pytest.raises(UserError, match="loss = 'cross_entropy': unknown; did you mean 'cross-entropy'"):
        named_loss("cross_entropy")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_refused_where_it_happened(bad: float) -> None:
    losses = torch.zeros(4, 3)
    losses[2, 1] = bad
    with pytest.raises(UserError, match=f"step 7, unit 2 returned {bad}"):
        check_losses(losses, (4, 3), "step 7, unit 2")


@pytest.mark.parametrize(
    ("shape", "told"), [((1,), "()"), ((1, 3, 1), "(3, 1)"), ((1, 4), "(4,)"), ((1, 3, 10), "(3, 10)")]
)
def test_a_wrong_shape_is_told_as_the_user_sees_it(shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(UserError) as error:
        check_losses(torch.zeros(shape), (4, 3), "step 7, unit 2")
    assert f"step 7, unit 2 returned shape {told} for 3 examples" in str(error.value)
    assert "shape (3,)" in str(error.value)
