"""What exact robust accuracy needs of a network with one hidden Heaviside layer, and of the ball around one of its inputs.

    s = input, or [x >= t] per pixel      z = W s + b      h = [z >= 0]      logits = V h + d

Within the L-infinity ball around x (and [0, 1]) every input moves along a line of its own: ``s = start + width * v`` with v
in [0, 1]. Behind a per-pixel threshold v is a bit, and only pixels within epsilon of the threshold have one.

Shapes: D inputs, F inputs that can move, H hidden units, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from glr_dist.core.activations import Heaviside
from glr_dist.errors import UserError
from glr_dist.models.networks import InputThreshold, Standardize
from glr_dist.models.spec import refuse_not_finite

Floats = NDArray[np.float64]
SLACK = 1e-6  # of the ball, for proofs: float32 inputs at its edge count as inside
_OVERFLOW = float(np.finfo(np.float32).max) / 4.0


@dataclass(frozen=True, kw_only=True)
class ThresholdNetwork:
    """One hidden Heaviside layer, in float64."""

    model: nn.Module  # the network itself, which has the last word on every adversary
    w: Floats  # [H, D]
    b: Floats  # [H]
    v: Floats  # [C, H]
    d: Floats  # [C]
    input_threshold: float | None  # a float32 from which on an input counts as 1, else as 0; None: it counts as it is
    mean: float = 0.0  # subtracted from every input in float32, before the hidden layer; w and b hold it already

    @property
    def sizes(self) -> Floats:
        """[H] the Euclidean norm of each hidden unit's row, bias included: the scale of its pre-activation."""
        sizes: Floats = np.hypot(np.linalg.norm(self.w, axis=1), self.b)
        return sizes


@dataclass(frozen=True, kw_only=True)
class Ball:
    """Where the hidden layer's inputs can go: ``start + width * v``, v in [0, 1]."""

    x: NDArray[np.float32]  # [D], the centre
    least: NDArray[np.float32]  # [D] of an input in the ball itself, to the last bit
    most: NDArray[np.float32]  # [D]
    movable: NDArray[np.int64]  # [F] inputs that can move
    start: Floats  # [D] value at v = 0
    width: Floats  # [F] how far v = 1 is from it
    threshold: float | None  # the network's; v is a bit where there is one

    def input_at(self, v: Floats) -> NDArray[np.float32]:
        """The input of the ball that has these v [F]: float32 [D], as near to the centre as a threshold allows.

        A pixel that could pass the threshold only beyond the ball's edge stays on its side.
        """
        found = self.x.copy()
        if self.threshold is None:
            found[self.movable] = (self.start[self.movable] + self.width * v).astype(np.float32)
            return found.clip(self.least, self.most)
        least = np.float32(self.threshold)
        most = np.nextafter(least, np.float32(0))
        near = self.x[self.movable]
        found[self.movable] = np.where(v > 0.5, np.maximum(near, least), np.minimum(near, most))
        return found.clip(self.least, self.most)

    def holds(self, candidate: NDArray[np.float32]) -> bool:
        """Whether an input [D] lies within epsilon of the centre, and in [0, 1]: exactly so."""
        return bool(((candidate >= self.least) & (candidate <= self.most)).all())


def threshold_network(model: nn.Module) -> ThresholdNetwork:
    """The arrays of an mlp with one hidden Heaviside layer, perhaps behind a threshold per input or a standardization.

    Raises:
        UserError: for any other architecture, and for values that are not finite, or whose sums may overflow in float32.
    """
    refuse_not_finite(model, "exact")
    layers = [layer for layer in _layers(model) if not isinstance(layer, (nn.Flatten, nn.Identity))]
    first, inner = None, layers
    if layers and isinstance(layers[0], (InputThreshold, Standardize)):
        first, inner = layers[0], layers[1:]
    if [type(layer) for layer in inner] != [nn.Linear, Heaviside, nn.Linear]:
        found = ", ".join(type(layer).__name__ for layer in layers)
        raise UserError(
            f"exact: needs one hidden layer of Heaviside units (Linear, Heaviside, Linear); this network has {found};"
            " use --attack bpda-pgd"
        )
    (w, b), (v, d) = _affine(inner[0]), _affine(inner[2])
    threshold = float(np.float32(first.threshold)) if isinstance(first, InputThreshold) else None
    mean = 0.0
    if isinstance(first, Standardize):
        w, b, mean = w / first.std, b - w.sum(1) * (first.mean / first.std), first.mean
    network = ThresholdNetwork(model=model, w=w, b=b, v=v, d=d, input_threshold=threshold, mean=mean)
    sums = [np.abs(w).sum(1) * (1.0 + 2.0 * abs(mean)) + np.abs(b), np.abs(v).sum(1) + np.abs(d)]
    greatest = np.concatenate(sums).max(initial=0.0)
    if not greatest < _OVERFLOW:  # also where mean or std is not finite
        raise UserError(
            f"exact: sums of the network's weights reach {greatest:g}, more than float32 holds; scale them down"
        )
    return network


def _layers(model: nn.Module) -> list[nn.Module]:
    """The modules that a forward pass calls one after the other; a module of unknown inner life counts as one."""
    if type(model).forward is not nn.Sequential.forward:
        return [model]
    # children() would leave out what stands there twice
    return [inner for layer in model._modules.values() if layer is not None for inner in _layers(layer)]


def _affine(layer: nn.Module) -> tuple[Floats, Floats]:
    assert isinstance(layer, nn.Linear)
    weight = layer.weight.detach().cpu().double().numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().cpu().double().numpy()
    return weight, bias


def ball_around(x: NDArray[np.float32], epsilon: float, threshold: float | None, slack: float = SLACK) -> Ball:
    """Where the inputs of the hidden layer can go, around x [D] in [0, 1].

    A pixel can turn its bit if a float32 on the threshold's other side is within epsilon + slack: at the very edge of the
    ball rounding counts against the network.
    """
    reach = epsilon + slack
    exact = x.astype(np.float64)
    if threshold is None:
        low, high = (exact - epsilon).clip(0.0, 1.0), (exact + epsilon).clip(0.0, 1.0)
    else:
        below = float(np.nextafter(np.float32(threshold), np.float32(0)))
        low = np.where(exact - below > reach, 1.0, 0.0)
        high = np.where(threshold - exact > reach, 0.0, 1.0)
    movable = np.flatnonzero(high > low)
    width = (high - low)[movable]
    least, most = 0.0 - _farthest(-x, epsilon, 0.0), _farthest(x, epsilon, 1.0)
    return Ball(x=x, least=least, most=most, movable=movable, start=low, width=width, threshold=threshold)


def _farthest(x: NDArray[np.float32], epsilon: float, edge: float) -> NDArray[np.float32]:
    """The greatest float32 not above ``edge`` that exceeds x by epsilon at most, in real numbers."""
    exact = x.astype(np.float64)
    found = (exact + epsilon).clip(None, edge).astype(np.float32)
    for _ in range(2):  # it may have been rounded up
        wide = found.astype(np.float64)
        moved = wide - exact
        back = moved - wide
        lost = (wide - (moved - back)) - (exact + back)  # by the rounding of `moved` (Knuth's TwoSum)
        over = (moved > epsilon) | ((moved == epsilon) & (lost > 0.0))
        found = np.where(over, np.nextafter(found, np.float32(-np.inf)), found)
    return found
