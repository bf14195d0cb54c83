"""The head of a frozen feature extractor: threshold units learn behind layers that nobody trains.

In this folder, where DIR is laid out as by torchvision:

    glr-dist train head.toml --data-root DIR
    python head.py DIR
    glr-dist submit -- train head.toml --data-root DIR

The extractor here is a bank of Gabor filters, which needs no download. Any module does, such as one of torchvision with the
weights that it comes with: put it in eval mode and freeze it by ``requires_grad_(False)``; its layers get no noise.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import glr_dist
from glr_dist import Heaviside

HERE = Path(__file__)


def gabor_filters(angles: int = 8, side: int = 7) -> nn.Sequential:
    """[B, 1, H, W] -> [B, 2 * angles, H / 4, W / 4]: edges of each angle, light on dark and dark on light."""
    axis = torch.arange(side) - side // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    filters = []
    for number in range(angles):
        turn = math.pi * number / angles
        across = x * math.cos(turn) + y * math.sin(turn)
        wave = torch.sin(across * 2 * math.pi / side) * torch.exp(-(x**2 + y**2) / (2 * (side / 4) ** 2))
        filters += [wave, -wave]
    layer = nn.Conv2d(1, 2 * angles, side, padding=side // 2, bias=False)
    layer.weight.data = torch.stack(filters).unsqueeze(1).float() / side
    return nn.Sequential(layer, nn.ReLU(), nn.AvgPool2d(4), nn.BatchNorm2d(2 * angles))


class Head(nn.Module):
    """Frozen features, a layer of threshold units, and a linear read-out."""

    def __init__(self, shape: tuple[int, int, int], classes: int, hidden: int = 100) -> None:
        super().__init__()
        self.extractor = gabor_filters().requires_grad_(False).eval()
        features = self.extractor(torch.zeros(1, *shape)).numel()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(features, hidden), Heaviside(), nn.Linear(hidden, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.head(self.extractor(x))  # type: ignore[no-any-return]


def train(data_root: str, **options: Any) -> Any:
    """Train it as `head.toml` says, with some of its keys replaced."""
    keys = {"model.factory": f"{HERE}:Head", "data.root": data_root, **options}
    return glr_dist.train(config=glr_dist.load_config(str(HERE.with_suffix(".toml")), keys))


if __name__ == "__main__":
    print(f"test accuracy: {train(sys.argv[1]).test_accuracy:.1%}")
