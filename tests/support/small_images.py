"""Small images with pixels at the ends of their range, and untrained networks for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.models.networks import MLP, ConvNet


def network(kind: str) -> nn.Module:
    torch.manual_seed(1)
    if kind == "conv":
        return ConvNet((1, 8, 8), (6,), 3, 1, 10, "relu")
    return MLP(64, [20], 10, kind)


def images(count: int = 12) -> tuple[Tensor, Tensor]:
    """[count, 1, 8, 8] with pixels at 0 and 1 among them."""
    rng = np.random.default_rng(5)
    x = np.clip(rng.normal(0.5, 0.5, (count, 1, 8, 8)), 0.0, 1.0).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, 10, count))
