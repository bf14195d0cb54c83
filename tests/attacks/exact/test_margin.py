"""Margins against what float32 does: to sums in any order, to heavy rows, to a read-out with a huge bias."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from glr_dist.attacks.exact.margin import lead_margin, unit_margins
from glr_dist.attacks.exact.network import ball_around, threshold_network
from glr_dist.attacks.exact.search import verify
from glr_dist.core.activations import Heaviside
from glr_dist.models.networks import InputThreshold, Standardize


def one_unit(weights: NDArray[np.float32], first: nn.Module, bias: float = 0.0) -> nn.Sequential:
    """Class 1 where the one hidden unit is on, class 0 elsewhere."""
    hidden, readout = nn.Linear(len(weights), 1), nn.Linear(1, 2)
    model = nn.Sequential(first, hidden, Heaviside(), readout).requires_grad_(False)
    hidden.weight.copy_(torch.from_numpy(weights))
    hidden.bias.fill_(bias)
    readout.weight.copy_(torch.tensor([[0.0], [2.0]]))
    readout.bias.copy_(torch.tensor([1.0, 0.0]))
    return model


def exactly(weights: NDArray[np.float32], inputs: NDArray[np.float32], bias: float) -> float:
    """Products of two float32 are exact in float64, and fsum is exact."""
    return math.fsum([*(weights.astype(float) * inputs.astype(float)).tolist(), bias])


@pytest.mark.parametrize("heavy", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("inputs", [3, 50, 784])
def test_no_order_of_adding_up_leaves_the_margin(inputs: int, heavy: float) -> None:
    rng = np.random.default_rng(inputs)
    for _ in range(20):
        w = (heavy * rng.standard_normal(inputs) ** 3).astype(np.float32)
        x = rng.uniform(0, 1, inputs).astype(np.float32)
        network = threshold_network(one_unit(w, nn.Identity()))
        margin = float(unit_margins(network, ball_around(x, 0.0, None), 0.0)[0])
        products = w * x
        up = np.sort(products)
        by_size = products[np.argsort(np.abs(products))]
        for order in (products, up, up[::-1], by_size, by_size[::-1]):
            one_by_one = float(np.cumsum(order, dtype=np.float32)[-1])
            assert abs(one_by_one - exactly(w, x, 0.0)) <= margin


def test_standardized_inputs_are_counted_as_float32_sees_them() -> None:
    rng, first = np.random.default_rng(0), Standardize(0.1307, 0.3081)
    for _ in range(50):
        w, x = rng.standard_normal(784).astype(np.float32), rng.uniform(0, 1, 784).astype(np.float32)
        model = one_unit(w, first)
        network = threshold_network(model)
        margin = float(unit_margins(network, ball_around(x, 0.0, None), 0.0)[0])
        seen = float(model[1](first(torch.from_numpy(x))))  # type: ignore[operator]
        assert abs(seen - float(network.w[0] @ x.astype(float) + network.b[0])) <= margin


@pytest.mark.parametrize("share", [0.0, 1e-4])
def test_a_margin_grows_with_its_unit(share: float) -> None:
    w = np.random.default_rng(0).standard_normal(40).astype(np.float32)
    ball = ball_around(np.full(40, 0.5, np.float32), 0.1, 0.5)
    plain, scaled = (
        float(unit_margins(threshold_network(one_unit(factor * w, InputThreshold(0.5))), ball, share)[0])
        for factor in (np.float32(1), np.float32(2**-20))
    )
    assert scaled == pytest.approx(plain * 2**-20, rel=1e-9)
    assert not share or plain == pytest.approx(1e-4 * float(np.linalg.norm(w)))


def test_pixels_that_stay_dark_cost_nothing() -> None:
    network = threshold_network(one_unit(np.full(100, 1.0, np.float32), InputThreshold(0.5)))

    def margin(lit: int) -> float:
        x = np.where(np.arange(100) < lit, 0.9, 0.1).astype(np.float32)
        return float(unit_margins(network, ball_around(x, 0.1, 0.5), 0.0)[0])

    assert margin(50) > 10 * margin(5)


def test_a_proof_allows_for_what_float32_does_to_a_heavy_row() -> None:
    """The bit at the ball's corner is 0 in reals, by more than 1e-4, and 1 in float32."""
    planted = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        w = (300 * rng.standard_normal(784)).astype(np.float32)
        corner = (rng.random(784) < 0.5).astype(np.float32)
        x = np.where(corner > 0, 0.9, 0.1).astype(np.float32)
        x[0], w[0], corner[0] = 0.45, 500.0, 1.0  # dark, and lit by the attack
        bias = float(np.float32(-exactly(w, corner, 0.0) - 5e-4))
        model = one_unit(w, InputThreshold(0.5), bias)
        if float(model[1](torch.from_numpy(corner)[None])) >= 0 and exactly(w, corner, bias) < -1e-4:  # type: ignore[operator]
            planted += 1
            assert verify(model, x, 0, 0.1, seconds=30).status == "broken"
    assert planted >= 3


def test_a_proof_allows_for_what_float32_does_to_a_huge_output_bias() -> None:
    """Class 1 leads by 0.3 in reals, and by nothing beside 1e7 in float32."""
    model = one_unit(np.ones(1, np.float32), nn.Identity(), -0.55)
    model[3].weight.copy_(torch.tensor([[0.0], [-1.7]]))  # type: ignore[union-attr, operator]
    model[3].bias.copy_(torch.tensor([1e7, 1e7 + 2]))  # type: ignore[union-attr, operator]
    assert verify(model, np.array([0.5], np.float32), 1, 0.1, seconds=30).status == "broken"


def test_a_lead_counts_the_units_that_may_be_on() -> None:
    model = nn.Sequential(nn.Linear(1, 3), Heaviside(), nn.Linear(3, 2)).requires_grad_(False)
    model[2].weight.fill_(4.0)  # type: ignore[union-attr, operator]
    model[2].bias.zero_()  # type: ignore[union-attr, operator]
    network = threshold_network(model)
    on = np.tril(np.ones((4, 3), dtype=bool), -1)  # none of the units, one, two, three
    margins = [lead_margin(network, 1, 0, which, 1e-4) for which in on]
    assert margins[0] < 1e-30
    assert margins[1] < margins[2] / 2 < margins[3] / 3
