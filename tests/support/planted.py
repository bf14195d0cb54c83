"""Tiny networks with a known adversary, for the tests beside them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside

PIXELS = 64
SIGNS = torch.from_numpy(np.random.default_rng(7).choice([-1.0, 1.0], PIXELS).astype(np.float32))


def grey(count: int) -> tuple[Tensor, Tensor]:
    """Nearly grey samples [count, PIXELS] of class 0, none like the other."""
    rng = np.random.default_rng(3)
    x = 0.5 + 0.01 * rng.uniform(-1, 1, (count, PIXELS))
    return torch.from_numpy(x.astype(np.float32)), torch.zeros(count, dtype=torch.int64)


def planted_threshold(distance: float) -> nn.Module:
    """One Heaviside unit that turns class 0 into 1, `distance` away from grey (L-infinity) and only along SIGNS."""
    return nn.Sequential(planted_linear(distance)[0], Heaviside(), _layer([[0.0], [2.0]], [1.0, 0.0]))


def planted_linear(distance: float) -> nn.Sequential:
    """The same boundary, with a slope: logits (0, SIGNS . (x - grey) - distance * PIXELS)."""
    bias = -0.5 * float(SIGNS.sum()) - distance * PIXELS
    return nn.Sequential(_layer([SIGNS.tolist()], [bias]), _layer([[0.0], [1.0]], [0.0, 0.0]))


def nearest_distance(x: Tensor, distance: float) -> Tensor:
    """The exact L-infinity distance of each sample to the planted boundary: margin / ||w||_1."""
    return distance - ((x.double() - 0.5) @ SIGNS.double()) / PIXELS


def _layer(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer
