"""The Heaviside step, alone, under vmap, and with the derivatives that the control and the attacks lend it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch

from glr_dist.core.activations import (
    ACTIVATIONS,
    Heaviside,
    activation,
    heaviside,
    sigmoid_derivative,
    straight_through,
)
from glr_dist.core.passes import noisy_logits
from glr_dist.core.probing import find_sites
from glr_dist.core.taps import Hooks
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP

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


def test_sigmoid_derivative_keeps_the_bits_and_has_the_sigmoids_slope() -> None:
    x = torch.tensor([-50.0, -2.0, -0.1, 0.0, 0.1, 2.0, 50.0], requires_grad=True)
    with sigmoid_derivative(1.5):
        y = heaviside(x)
    assert y.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    (found,) = torch.autograd.grad(y.sum(), x)
    exact = x.detach().double()
    expected = 1.5 * torch.sigmoid(1.5 * exact) * torch.sigmoid(-1.5 * exact)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0.0)  # at +50 too, where float32's 1 - s is 0


@pytest.mark.parametrize("stand_in", [straight_through(), sigmoid_derivative(2.0)], ids=["straight-through", "sigmoid"])
def test_a_stand_in_keeps_exact_bits(stand_in: AbstractContextManager[None]) -> None:
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    with stand_in:
        assert torch.equal(heaviside(x), (x >= 0).float())


def test_the_inner_derivative_counts_and_the_outer_comes_back() -> None:
    x = torch.zeros(1, requires_grad=True)
    with straight_through():
        with sigmoid_derivative(8.0):
            inner = torch.autograd.grad(heaviside(x).sum(), x)[0]
        outer = torch.autograd.grad(heaviside(x).sum(), x)[0]
    assert (inner.item(), outer.item()) == (2.0, 0.5)
    assert not heaviside(x).requires_grad


@pytest.mark.parametrize("fold", [True, False])
def test_sigmoid_derivative_passes_through_noisy_passes(fold: bool) -> None:
    torch.manual_seed(0)
    model = MLP(3, [4], 2, "heaviside")
    sites = find_sites(model, (3,))
    noise = {0: torch.randn(5, 2, 4)}
    x = torch.rand(2, 3, requires_grad=True)
    with sigmoid_derivative(2.0):
        logits = noisy_logits(Hooks(model, sites), noise, 0.5, x, fold=fold)
        (found,) = torch.autograd.grad(logits[:, :, 1].sum(), x)
    first, last = model[1], model[3]
    pre = first(x).detach() + 0.5 * noise[0]  # [5, 2, 4]
    slopes = 2.0 * torch.sigmoid(2.0 * pre) * torch.sigmoid(-2.0 * pre)
    torch.testing.assert_close(logits, last((pre >= 0).float()))
    torch.testing.assert_close(found, ((slopes * last.weight[1]) @ first.weight).sum(0))
