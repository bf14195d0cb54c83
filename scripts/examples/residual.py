"""A network of one's own: convolutions with Heaviside units and a connection around the second, on Fashion-MNIST.

In this folder, where DIR is laid out as by torchvision:

    glr-dist train residual.toml --data-root DIR
    python residual.py DIR                                  # the same from Python
    glr-dist submit -- train residual.toml --data-root DIR  # the same on a cluster, where residual.py travels along
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import glr_dist
from glr_dist import Heaviside

HERE = Path(__file__)


class Net(nn.Module):
    """[B, C, H, W] -> [B, classes]; called with the shape of one image, [C, H, W], and the number of classes."""

    def __init__(self, shape: tuple[int, int, int], classes: int, maps: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(shape[0], maps, 5, stride=3, padding=2)
        self.around = nn.Conv2d(maps, maps, 3, padding=1)
        self.step, self.pool = Heaviside(), nn.AvgPool2d(2)
        with torch.no_grad():
            features = self.pool(self.first(torch.zeros(1, *shape))).numel()
        self.out = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        bits = self.step(self.first(x))
        return self.out(self.pool(bits + self.step(self.around(bits))).flatten(1))  # type: ignore[no-any-return]


def train(data_root: str, **options: Any) -> Any:
    """Train it as `residual.toml` says, with some of its keys replaced."""
    keys = {"model.factory": f"{HERE}:Net", "data.root": data_root, **options}
    return glr_dist.train(config=glr_dist.load_config(str(HERE.with_suffix(".toml")), keys))


if __name__ == "__main__":
    print(f"test accuracy: {train(sys.argv[1]).test_accuracy:.1%}")
