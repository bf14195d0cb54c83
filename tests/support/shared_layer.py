"""A network that calls a layer more than once, and what is left on a network by those who looked into it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glr_dist.core.activations import heaviside


class Shared(nn.Module):
    """Calls its layer ``core`` so many times, a Heaviside unit between, then a sigmoid and its layer ``last``."""

    def __init__(self, times: int = 2) -> None:
        super().__init__()
        self.core, self.last = nn.Linear(3, 3), nn.Linear(3, 2)
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        z = self.core(x)
        for _ in range(self.times - 1):
            z = self.core(heaviside(z))
        out: Tensor = self.last(torch.sigmoid(z))
        return out


def hooks(model: nn.Module) -> int:
    """Hooks on the model's modules, of both kinds."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
