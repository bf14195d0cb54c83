"""An objective that is a simulator: a cart is pushed left or right by threshold units so that it comes to rest at 0.

The simulator is part of the network: its inputs are the cart's state at the start, its output is what the episode cost. So
noise on the neurons and noise on the weights train it alike, and neither needs a derivative of the simulator.

    glr-dist train control.toml                                          # noise on the neurons, in every time step
    glr-dist train control.toml --method es --set noise.scale=0.1        # noise on the weights
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist import ArrayDataset, Heaviside

STEPS, SECONDS = 12, 0.25  # of an episode, and of one of its steps


class Episode(nn.Module):
    """[B, 2] position and speed at the start -> [B, 1] the cost: how far the cart is from rest at 0, mean over the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.sees, self.pushes, self.step = nn.Linear(2, 12), nn.Linear(12, 1), Heaviside()

    def forward(self, state: Tensor) -> Tensor:
        """The cost of one episode for each start."""
        position, speed = state[:, 0], state[:, 1]
        cost = torch.zeros_like(position)
        for _ in range(STEPS):
            seen = torch.stack([position, speed], dim=1)
            push = 2 * self.step(self.pushes(self.step(self.sees(seen))))[:, 0] - 1  # to the left or to the right
            speed = speed + SECONDS * push
            position = position + SECONDS * speed
            cost = cost + position.square() + 0.3 * speed.square()
        return (cost / STEPS).unsqueeze(1)


def episode_cost(outputs: Tensor, nothing: Tensor) -> Tensor:
    """What the simulator says is the loss: [B, 1] -> [B]."""
    return outputs[:, 0]


def starts() -> ArrayDataset:
    """Carts anywhere in [-1, 1] at any speed in [-1, 1]; there is nothing to be predicted."""
    rng = np.random.default_rng(0)
    train, test = (rng.uniform(-1, 1, (count, 2)).astype(np.float32) for count in (4000, 1000))
    targets: list[Any] = [np.zeros((len(x), 1), np.float32) for x in (train, test)]
    return ArrayDataset((train, targets[0]), (test, targets[1]), classes=["cost"])
