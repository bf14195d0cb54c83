"""Networks that hold one copy of their parameters per seed, so that one gradient call gives an estimate for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import exact
import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.core.activations import heaviside
from glr_dist.core.losses import cross_entropy, zero_one
from glr_dist.core.noise import NoiseSource
from glr_dist.core.passes import split_noise
from glr_dist.core.sites import Site

SEEDS = 100
COPIES = 6
LABEL = 1
LIMIT = 4.0
SCALE = {"gaussian": 0.8, "laplace": 0.6}
LOSSES = {"cross-entropy": cross_entropy, "zero-one": zero_one, "user": exact.users_loss}
PHI: dict[str, Callable[[Tensor], Tensor]] = {
    "two hidden Heaviside layers": heaviside,
    "a Heaviside layer called twice, with a skip": heaviside,
    "a sigmoid unit": torch.sigmoid,
    "a step with a skip around it": lambda z: heaviside(z) + 0.5 * z,
}
ENUMERATED = [name for name, net in exact.NETWORKS.items() if net.enumerated]
INTEGRATED = [name for name, net in exact.NETWORKS.items() if not net.enumerated]


class SeededLinear(nn.Module):
    """SEEDS equal linear layers; row r goes through the (r mod SEEDS)-th."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.float().repeat(SEEDS, 1, 1))
        self.bias = nn.Parameter(bias.float().repeat(SEEDS, 1))

    def forward(self, h: Tensor) -> Tensor:
        lane = torch.arange(len(h)) % SEEDS
        return torch.einsum("ri,roi->ro", h, self.weight[lane]) + self.bias[lane]


class SeededNetwork(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.net, self.phi = exact.NETWORKS[name], PHI[name]
        self.layers = nn.ModuleList(SeededLinear(*layer) for layer in self.net.parameters())

    def forward(self, x: Tensor) -> Tensor:
        return self.net.wiring(lambda site, layer, h: self.layers[layer](h), lambda site, z: self.phi(z), x)


def unit_noise(
    every: dict[int, NoiseSource], sites: Sequence[Site], indices: Sequence[int], draws: int, rows: int, unit: int
) -> dict[int, Tensor]:
    """The noise of one work unit of each seed, seeds side by side: {site: [P, rows * SEEDS, N]}."""
    count = draws * rows * sum(sites[i].size for i in indices)
    parts = []
    for seed, source in every.items():
        values = source.values(np.random.SeedSequence(seed, spawn_key=(0, indices[0], unit)), count)
        parts.append(split_noise(values, draws, rows, sites, indices))
    return {i: torch.stack([part[i] for part in parts], dim=2).flatten(1, 2) for i in indices}
