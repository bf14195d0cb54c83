"""The Heaviside step, alone, under vmap and in the straight-through control."""

from __future__ import annotations

import pytest
import torch

from glr_dist.core.activations import ACTIVATIONS, Heaviside, activation, heaviside, straight_through
from glr_dist.errors import UserError

VALUES = torch.tensor([-2.0, -0.99, -1e-30, -0.0, 0.0, 1e-30, 0.5, 3.0])
BITS = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_is_one_from_zero_up(dtype: torch.dtype) -> None:
    x = VALUES.to(dtype)
    assert torch.equal(heaviside(x), BITS.to(dtype))
    assert torch.equal(Heaviside()(x), BITS.to(dtype))
    assert torch.equal(x, VALUES.to(dtype))  # not worked on in place


def test_step_is_the_same_under_vmap() -> None:
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.func.vmap(heaviside)(x), heaviside(x))
    assert torch.equal(torch.func.vmap(heaviside, in_dims=1, out_dims=1)(x), heaviside(x))


def test_step_has_no_derivative() -> None:
    x = VALUES.clone().requires_grad_()
    assert not heaviside(x).requires_grad


def test_straight_through_keeps_the_values_and_has_slope_one_half_near_zero() -> None:
    x = VALUES.clone().requires_grad_()
    with straight_through():
        y = heaviside(x)
    assert torch.equal(y.detach(), BITS)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.tolist() == [0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0]


def test_straight_through_values_are_exact_bits() -> None:
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    with straight_through():
        assert torch.equal(heaviside(x), (x >= 0).float())


def test_straight_through_ends_with_its_block_even_by_an_error() -> None:
    x = VALUES.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="stop"), straight_through():
        raise RuntimeError("stop")
    assert not heaviside(x).requires_grad


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_names_give_modules(name: str) -> None:
    assert activation(name)(VALUES).shape == VALUES.shape


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"model\.activation = 'heavyside': unknown; did you mean 'heaviside'\?"):
        activation("heavyside")
