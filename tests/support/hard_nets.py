"""Networks that are hard to bound: heavy and tiny weights, ties, cancelling biases, of several depths; and hunts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside
from glr_dist.models.networks import InputThreshold, Standardize, Thermometer

SHAPE = (1, 4, 4)  # of the images


def hard_net(seed: int) -> nn.Sequential:
    """A random network for images of SHAPE with three classes: by its seed deep or not, behind thresholds or not."""
    rng = np.random.default_rng(seed)
    firsts: list[tuple[nn.Module, int]] = [
        (InputThreshold(0.5), 1),
        (Thermometer([0.3, 0.7]), 2),
        (Standardize(0.13, 0.31), 1),
        (nn.Identity(), 1),
    ]
    first, maps = firsts[seed % len(firsts)]
    layers: list[nn.Module] = [first]
    if rng.random() < 0.4:
        layers += [nn.Conv2d(maps, 3, 3, padding=1), Heaviside()]
        if rng.random() < 0.5:
            layers += [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 6), Heaviside()]
        else:
            layers += [nn.Flatten(), nn.Linear(48, 6), Heaviside()]
    else:
        layers += [nn.Flatten(), nn.Linear(16 * maps, 8), nn.ReLU() if rng.random() < 0.2 else Heaviside()]
        for _ in range(int(rng.integers(0, 3))):
            layers += [nn.Linear(8, 8), Heaviside()]
    width = 6 if isinstance(layers[-2], nn.Linear) and layers[-2].out_features == 6 else 8
    layers.append(nn.Linear(width, 3))
    model = nn.Sequential(*layers).requires_grad_(False)
    for layer in model:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            _harden(layer, rng)
    return model.eval()


def _harden(layer: nn.Linear | nn.Conv2d, rng: np.random.Generator) -> None:
    """Whole numbers, so that sums tie at 0; rows times 1e-6 to 1e6; biases that cancel what a row may sum up to."""
    assert layer.bias is not None
    if rng.random() < 0.5:
        layer.weight.copy_(torch.from_numpy(rng.integers(-2, 3, layer.weight.shape).astype(np.float32)))
        layer.bias.copy_(torch.from_numpy(rng.integers(-2, 3, len(layer.bias)).astype(np.float32)))
    if rng.random() < 0.5:
        some = torch.from_numpy(rng.random(layer.weight.shape) < 0.3)
        total = torch.where(some, layer.weight, 0.0).flatten(1).sum(1)
        layer.bias.copy_(-total * (1.0 + float(rng.choice([0.0, 1e-7, -1e-7]))))
    if rng.random() < 0.4:
        factors = torch.from_numpy(10.0 ** rng.uniform(-6, 6, len(layer.bias))).float()
        layer.weight.mul_(factors.view(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.mul_(factors)


def hard_images(rng: np.random.Generator, count: int) -> Tensor:
    """Images [count, *SHAPE] with pixels on thresholds, beside them, and at both ends."""
    grid = np.array([0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0], np.float32)
    beside = np.nextafter(grid, np.float32(rng.choice([0.0, 1.0])))
    pixels = rng.choice(np.concatenate([grid, beside, rng.random(7, np.float32)]), (count, *SHAPE))
    return torch.from_numpy(pixels.astype(np.float32)).clamp(0.0, 1.0)


def within(x: Tensor, toward: Tensor, epsilon: float) -> Tensor:
    """Points of the balls around x at ``toward`` in [-1, 1], and never outside, to the last bit."""
    moved = (x.double() + toward.double() * epsilon).float().clamp(0.0, 1.0)
    for _ in range(2):
        out = (moved.double() - x.double()).abs() > epsilon
        moved = torch.where(out, torch.nextafter(moved, x), moved)
    return moved


def hunted(model: nn.Module, x: Tensor, label: int, epsilon: float, seed: int, tries: int = 60) -> bool:
    """Whether random corners, random flips of these, or climbs of single pixels find an adversary for one image."""
    generator = torch.Generator().manual_seed(seed)

    def corners(count: int) -> Tensor:
        return torch.randint(0, 3, (count, *x.shape), generator=generator).float() - 1.0

    def lead(points: Tensor) -> Tensor:
        logits = model(points)
        others = logits.clone()
        others[:, label] = -torch.inf
        return others.amax(1) - logits[:, label]

    steps = corners(tries)
    points = within(x, steps, epsilon)
    if (model(points).argmax(1) != label).any():
        return True
    best, height = steps[int(lead(points).argmax())], -torch.inf
    for round_ in range(6):  # annealed: fewer pixels are turned in later rounds
        turned = torch.rand((tries, *x.shape), generator=generator) < 0.4 / (1 + round_)
        steps = torch.where(turned, corners(tries), best)
        points = within(x, steps, epsilon)
        if (model(points).argmax(1) != label).any():
            return True
        leads = lead(points)
        if float(leads.max()) > float(height):
            best, height = steps[int(leads.argmax())], leads.max()
    return False
