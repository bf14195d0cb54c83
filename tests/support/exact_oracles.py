"""Networks small enough to try every input or every sign pattern, and digits behind a threshold per pixel."""

from __future__ import annotations

import copy
import itertools
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from small_nets import trained_mlp
from torch import nn

from glr_dist.core.activations import Heaviside
from glr_dist.models.networks import InputThreshold


def lattice_net(seed: int, inputs: int, hidden: int, classes: int, threshold: float = 0.0) -> nn.Sequential:
    """Weights in eighths and biases between them: no pre-activation of bits and no lead is within 1/64 of 0."""
    rng = np.random.default_rng(seed)
    first = [InputThreshold(threshold)] if threshold else []
    layers = [nn.Linear(inputs, hidden), Heaviside(), nn.Linear(hidden, classes)]
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            layer.weight.copy_(torch.from_numpy(rng.integers(-16, 17, layer.weight.shape) / 8.0))
        layers[0].bias.copy_(torch.from_numpy(rng.integers(-8, 8, hidden) / 8.0 + 1 / 16))
        layers[2].bias.copy_(torch.arange(classes) / 64.0)
    return nn.Sequential(*first, *layers).requires_grad_(False)


def classes_in_ball(model: nn.Module, x: NDArray[np.float32], epsilon: float, threshold: float) -> set[int]:
    """Every class that the network behind a threshold gives somewhere in the ball: one input for each pattern of bits."""
    low, high = (x - epsilon).clip(0, 1), (x + epsilon).clip(0, 1)
    ways = [sorted({bool(a >= threshold), bool(b >= threshold)}) for a, b in zip(low, high, strict=True)]
    corners = torch.tensor(list(itertools.product(*ways)), dtype=torch.float32)
    return set(model(corners).argmax(1).tolist())


def classes_by_patterns(
    model: nn.Sequential, x: NDArray[np.float32], epsilon: float, slack: float
) -> tuple[set[int], set[int]]:
    """Every class that some sign pattern gives which a point of the ball has: surely, by ``slack``; perhaps, up to it."""
    w, b = model[0].weight.double().numpy(), model[0].bias.double().numpy()  # type: ignore[union-attr, operator]
    low, high = (x - epsilon).clip(0, 1).astype(float), (x + epsilon).clip(0, 1).astype(float)
    least = np.where(w > 0, w * low, w * high).sum(1) + b
    most = np.where(w > 0, w * high, w * low).sum(1) + b
    ways = [[bit for bit, end in ((0.0, -z0), (1.0, z1)) if end >= -slack] for z0, z1 in zip(least, most, strict=True)]
    surely, perhaps = set(), set()
    for bits in itertools.product(*ways):
        sign = np.where(np.array(bits) > 0, 1.0, -1.0)
        # the greatest t that sign * (w x + b) >= t allows
        rows = np.column_stack([-sign[:, None] * w, np.ones(len(b))])
        box = [*zip(low, high, strict=True), (None, None)]
        found = linprog([*np.zeros(len(x)), -1.0], A_ub=rows, b_ub=sign * b, bounds=box)
        answer = int(model[2](torch.tensor([bits]))[0].argmax())
        surely |= {answer} if -found.fun >= slack else set()
        perhaps |= {answer} if -found.fun >= -slack else set()
    return surely, perhaps


def rescaled(model: nn.Sequential, seed: int) -> nn.Sequential:
    """The same network with each hidden unit's row, and the whole read-out, times a factor from 1e-6 to 1e6 of its own."""
    model = copy.deepcopy(model)
    rng = np.random.default_rng(seed)
    hidden, readout = [layer for layer in model if isinstance(layer, nn.Linear)]
    rows = torch.from_numpy(10.0 ** rng.uniform(-6, 6, len(hidden.weight))).float()
    hidden.weight.mul_(rows[:, None])
    hidden.bias.mul_(rows)
    factor = float(10.0 ** rng.uniform(-6, 6))
    readout.weight.mul_(factor)
    readout.bias.mul_(factor)
    return model


@lru_cache
def digits_net(hidden: int = 24, threshold: float = 0.5) -> nn.Module:
    """An mlp behind a threshold per pixel that gets most digits right."""
    return trained_mlp("heaviside", hidden, first=[InputThreshold(threshold)] if threshold else [])
