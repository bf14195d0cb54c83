"""What a network with one hidden Heaviside layer says in rational numbers, everywhere in a ball: an oracle without rounding.

Behind a threshold every pattern of bits is tried. Without one, the hidden units' lines cut the ball into cells, edges and
corners, and the class is the same all over each: one point of each is tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from glr_dist.core.activations import Heaviside
from glr_dist.models.networks import InputThreshold, Standardize

Point = tuple[Fraction, ...]
SCALES = (1e-6, 1e6)  # of weights
BIASES = (1.0, 1e8)


def made(rng: np.random.Generator) -> tuple[nn.Sequential, NDArray[np.float32], float]:
    """A network, the centre of a ball and its radius: random, with ties, with breakpoints on the ball's edge."""
    behind = rng.random() < 0.5
    first: nn.Module = nn.Identity()
    if behind:
        first = InputThreshold(float(rng.choice([0.5, 0.3, rng.uniform(0.05, 0.95)])))
    elif rng.random() < 0.3:
        first = Standardize(float(rng.uniform(-1, 1)), float(rng.uniform(0.1, 2)))
    inputs = int(rng.integers(1, 7 if behind else 3))
    hidden, classes = int(rng.integers(1, 5)), int(rng.integers(2, 5))
    epsilon = float(rng.choice([0.0, 0.1, 0.25, 1.0, rng.uniform(0, 0.5)]))
    grid = rng.choice([0.0, 0.25, 0.4, 0.5, 0.6, 1.0], inputs)
    x = np.where(rng.random(inputs) < 0.5, grid, rng.random(inputs)).astype(np.float32)
    w, v = _weights(rng, hidden, inputs), _weights(rng, classes, hidden)
    b, d = _weights(rng, hidden, 1)[:, 0], _weights(rng, classes, 1)[:, 0]
    if rng.random() < 0.7:  # signs change within the ball, or, but for rounding, at a corner of it
        moves = [-1.0, 0.0, 1.0] if rng.random() < 0.4 else rng.uniform(-1, 1, 3)
        turns = (x + epsilon * rng.choice(moves, (hidden, inputs))).clip(0, 1)
        b = -(w * (turns > 0.5 if behind else turns)).sum(1) * (1.0 + rng.choice([0.0, 1e-7, -1e-7, 1e-6]))
    if rng.random() < 0.2:
        d = d + rng.choice([1.0, -1.0]) * 10.0 ** rng.uniform(*np.log10(BIASES))
    if rng.random() < 0.2:
        b = b + rng.choice([1.0, -1.0], hidden) * 10.0 ** rng.uniform(*np.log10(BIASES), hidden)
    if rng.random() < 0.2:
        v[:] = v[0]  # every lead is a bias
    if rng.random() < 0.2:
        d[:] = d[0]
    layers = nn.Linear(inputs, hidden), nn.Linear(hidden, classes)
    with torch.no_grad():
        for layer, weight, bias in zip(layers, (w, v), (b, d), strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    return nn.Sequential(first, layers[0], Heaviside(), layers[1]).requires_grad_(False), x, epsilon


def _weights(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    values = rng.integers(-2, 3, (rows, columns)) if rng.random() < 0.4 else rng.standard_normal((rows, columns))
    scale = 10.0 ** rng.uniform(*np.log10(SCALES), (rows, 1) if rng.random() < 0.3 else (1, 1))
    return np.asarray(values * (scale if rng.random() < 0.6 else 1.0), np.float64)


def points(model: nn.Sequential, x: NDArray[np.float32], epsilon: float) -> Iterator[Point]:
    """Points of the ball in rational numbers, of each cell, edge and corner one."""
    radius = Fraction(epsilon)
    box = [(max(Fraction(0), p - radius), min(Fraction(1), p + radius)) for p in map(Fraction, x.tolist())]
    first = model[0]
    if isinstance(first, InputThreshold):
        least = Fraction(float(np.float32(first.threshold)))
        below = Fraction(float(np.nextafter(np.float32(first.threshold), np.float32(0))))
        # an input is a float32: the greatest below the threshold counts, and no real between the two
        ways = [[*([low] if low <= below else []), *([high] if high >= least else [])] for low, high in box]
        yield from itertools.product(*ways)
        return
    lines = [_line(model, unit) for unit in range(len(model[1].weight))]  # type: ignore[arg-type]
    if len(box) == 1:
        yield from ((p,) for p in _with_middles([-b / w[0] for w, b in lines if w[0]], box[0]))
        return
    (left, right), (bottom, top) = box
    corners = [-b / w[0] for w, b in lines if w[0] and not w[1]]
    corners += [-(w[1] * end + b) / w[0] for w, b in lines if w[0] for end in (bottom, top)]
    for (w, b), (u, c) in itertools.combinations(lines, 2):
        if area := w[0] * u[1] - w[1] * u[0]:
            corners.append((w[1] * c - u[1] * b) / area)
    for p in _with_middles(corners, (left, right)):
        for q in _with_middles([-(w[0] * p + b) / w[1] for w, b in lines if w[1]], (bottom, top)):
            yield p, q


def _with_middles(values: Sequence[Fraction], ends: tuple[Fraction, Fraction]) -> list[Fraction]:
    found = sorted({*ends, *(value for value in values if ends[0] < value < ends[1])})
    return [*found, *((a + b) / 2 for a, b in itertools.pairwise(found))]


def _line(model: nn.Sequential, unit: int) -> tuple[list[Fraction], Fraction]:
    """A hidden unit's pre-activation as a function of the input: weights and bias."""
    w, b = list(map(Fraction, model[1].weight[unit].tolist())), Fraction(float(model[1].bias[unit]))  # type: ignore[index, union-attr, operator]
    if isinstance(model[0], Standardize):
        mean, std = Fraction(model[0].mean), Fraction(model[0].std)
        w, b = [each / std for each in w], b - sum(w) * mean / std
    return w, b


def class_at(model: nn.Sequential, point: Point) -> int:
    """The class in rational numbers; of equal logits the first."""
    inputs: Sequence[Fraction] = point
    if isinstance(model[0], InputThreshold):
        least = Fraction(float(np.float32(model[0].threshold)))
        inputs = [Fraction(int(p >= least)) for p in point]
    bits = []
    for unit in range(len(model[1].weight)):  # type: ignore[arg-type]
        w, b = _line(model, unit)
        bits.append(sum((a * p for a, p in zip(w, inputs, strict=True)), b) >= 0)
    logits = [
        sum((Fraction(v) for v, bit in zip(row, bits, strict=True) if bit), Fraction(d))
        for row, d in zip(model[3].weight.tolist(), model[3].bias.tolist(), strict=True)  # type: ignore[operator, union-attr]
    ]
    return logits.index(max(logits))


def inside(candidate: NDArray[np.float32], x: NDArray[np.float32], epsilon: float) -> bool:
    """Whether a float32 input lies in the ball, in rational numbers."""
    moved = (abs(Fraction(a) - Fraction(b)) for a, b in zip(candidate.tolist(), x.tolist(), strict=True))
    return max(moved, default=Fraction(0)) <= Fraction(epsilon) and candidate.min() >= 0 and candidate.max() <= 1


def float32_near(found: Sequence[Point], x: NDArray[np.float32], epsilon: float) -> NDArray[np.float32]:
    """The float32 inputs of the ball beside these points, the centre among them: [n, D]."""
    near = np.array([[float(p) for p in point] for point in found], np.float32).reshape(-1, len(x))
    tried = np.concatenate([x[None], near, *(np.nextafter(near, np.float32(end)) for end in (-1, 2))])
    return np.unique([row for row in tried if inside(row, x, epsilon)], axis=0)
