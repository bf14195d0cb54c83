"""Proofs by intervals: one pass that bounds what a network may do anywhere in a ball, for all samples at once, at any depth.

Every tensor of the pass is a pair (low, high) that holds whatever a float32 forward pass may have there, for every input
of the ball. A layer ``z = W s + b`` with s of centre c and radius r has exact values within ``W c + b -+ |W| r``; a float32
pass may be off these by Higham's bound (`glr_dist.attacks.exact.margin`), so the pair is moved outward by it, and a
Heaviside unit whose threshold lies within is open: its bit may be either. At the read-out the worst lead of the label y over
class c,

    sum_h min over s_h of (V_y - V_c)_h s_h + d_y - d_c,

takes the difference before the minimum. Where it exceeds for every c what float32 may do to both logits, no float32 pass
(its sums in any order, without TF32 or transforms such as Winograd's) takes an input of the ball for another class. All is
computed in float64, whose own error is 2^-29 of the one allowed for.

Shapes: B samples, C classes, H inputs of the read-out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d

from glr_dist.attacks.exact.margin import float32_error
from glr_dist.attacks.exact.network import SLACK
from glr_dist.core.activations import Heaviside
from glr_dist.errors import UserError
from glr_dist.models.feedforward import feedforward
from glr_dist.models.networks import InputThreshold, Standardize, Thermometer

_OWN = 1.001  # float64's own error, beside float32's
_OVERFLOW = float(np.finfo(np.float32).max) / 4.0


@dataclass(frozen=True)
class Interval:
    """What values may be, float64: low <= high, [B, ...]."""

    low: Tensor
    high: Tensor

    @property
    def largest(self) -> Tensor:
        """The greatest absolute value."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def widened(self, by: Tensor) -> Interval:
        """Moved outward."""
        return Interval(self.low - by, self.high + by)

    def each(self, function: nn.Module | None) -> Interval:
        """Through a function that grows, exactly computed."""
        return self if function is None else Interval(function(self.low), function(self.high))


@torch.no_grad()
def worst_leads(layers: Sequence[nn.Module], x: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Lower bounds of the label's lead over every class in the ball, less what float32 may do: float64 [B, C].

    Where all of a sample's are above 0, its class is proved. The label's own is infinite.

    Args:
        layers: from `glr_dist.models.feedforward.feedforward`.
        x: float32 [B, ...] in [0, 1].
        labels: int64 [B].
        epsilon: radius; inputs up to 1e-6 outside the ball count as inside.

    Raises:
        UserError: where sums of the weights may overflow in float32.
    """
    wide = x.double()
    reach = epsilon + SLACK
    here = Interval((wide - reach).clamp(0.0, 1.0), (wide + reach).clamp(0.0, 1.0))
    for layer in layers[:-1]:
        here = _through(layer, here)
    readout = layers[-1]
    assert isinstance(readout, nn.Linear)
    return _leads(readout, here, labels)


def proof_layers(model: nn.Module) -> list[nn.Module]:
    """A network's layers, for `worst_leads`.

    Raises:
        UserError: for a network that intervals can't be had of; see `feedforward`.
    """
    return [layer for _, layer in feedforward(model, "intervals")]


def _through(layer: nn.Module, s: Interval) -> Interval:
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        return _affine(layer, s)
    if isinstance(layer, nn.AvgPool2d):
        return _pooled(layer, s)
    if isinstance(layer, Standardize):
        return _standardized(layer, s)
    if isinstance(layer, InputThreshold):
        return _thresholded([layer.threshold], s)
    if isinstance(layer, Thermometer):
        return _thresholded(layer.thresholds, s)
    if isinstance(layer, Heaviside):
        return Interval(s.low.ge(0.0).double(), s.high.ge(0.0).double())
    assert isinstance(layer, (nn.Flatten, nn.ReLU)), layer  # exact in float32
    return s.each(layer)


def _thresholded(thresholds: Sequence[float], s: Interval) -> Interval:
    """A float32 is compared exactly; a bit may be 0 where the greatest float32 below the threshold is within reach."""
    least = [float(np.float32(t)) for t in thresholds]
    below = [float(np.nextafter(np.float32(t), np.float32(-np.inf))) for t in thresholds]
    low = torch.cat([s.low.gt(t) for t in below], dim=1)
    high = torch.cat([s.high.ge(t) for t in least], dim=1)
    return Interval(low.double(), high.double())


def _standardized(layer: Standardize, s: Interval) -> Interval:
    """Roundings: of mean and deviation to float32, of the difference and of the quotient."""
    size = (s.largest + abs(layer.mean)) / layer.std
    _refuse_overflow(size)
    exact = Interval((s.low - layer.mean) / layer.std, (s.high - layer.mean) / layer.std)
    return exact.widened(_error(torch.ones(()), size))


def _pooled(layer: nn.AvgPool2d, s: Interval) -> Interval:
    def pool(values: Tensor) -> Tensor:
        sizes = layer.kernel_size, layer.stride, layer.padding
        return avg_pool2d(values, *sizes, layer.ceil_mode, layer.count_include_pad, layer.divisor_override)

    side = layer.kernel_size if isinstance(layer.kernel_size, tuple) else (layer.kernel_size, layer.kernel_size)
    size = pool(s.largest)
    _refuse_overflow(size * float(np.prod(side)))
    return Interval(pool(s.low), pool(s.high)).widened(_error(torch.tensor(np.prod(side)), size))


def _affine(layer: nn.Linear | nn.Conv2d, s: Interval) -> Interval:
    weight, bias = _parameters(layer)
    centre, radius, largest = (s.low + s.high) / 2.0, (s.high - s.low) / 2.0, s.largest
    if isinstance(layer, nn.Linear):
        terms = largest.count_nonzero(-1).unsqueeze(-1)
        middle = centre @ weight.t() + bias
        reach, size = radius @ weight.abs().t(), largest @ weight.abs().t() + bias.abs()
    else:

        def convolved(values: Tensor, kernel: Tensor, offset: Tensor | None) -> Tensor:
            assert isinstance(layer, nn.Conv2d)
            padding: Any = layer.padding  # also a word
            return conv2d(values, kernel, offset, layer.stride, padding, layer.dilation, layer.groups)

        terms = torch.tensor(weight[0].numel())
        middle = convolved(centre, weight, bias)
        reach, size = convolved(radius, weight.abs(), None), convolved(largest, weight.abs(), bias.abs())
    _refuse_overflow(size)
    return Interval(middle - reach, middle + reach).widened(_error(terms, size))


def _leads(readout: nn.Linear, s: Interval, labels: Tensor) -> Tensor:
    weight, bias = _parameters(readout)
    size = s.largest @ weight.abs().t() + bias.abs()  # [B, C] of each logit
    _refuse_overflow(size)
    error = _error(s.largest.count_nonzero(-1).unsqueeze(-1), size)
    leads = torch.empty_like(size)
    for label in labels.unique().tolist():
        rows = labels == label
        difference, offset = weight[label] - weight, bias[label] - bias  # [C, H], [C]
        least = s.low[rows] @ difference.clamp(min=0.0).t() + s.high[rows] @ difference.clamp(max=0.0).t() + offset
        leads[rows] = least - error[rows] - error[rows, label].unsqueeze(-1)
    return leads.scatter_(1, labels.unsqueeze(1), torch.inf)


def _parameters(layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor]:
    weight = layer.weight.detach().double()
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().double()


def _error(terms: Tensor, size: Tensor) -> Tensor:
    return _OWN * float32_error(terms.double(), size)


def _refuse_overflow(size: Tensor) -> None:
    greatest = float(size.max()) if size.numel() else 0.0
    if not greatest < _OVERFLOW:  # also where it is no number
        raise UserError(
            f"intervals: sums of the network's weights reach {greatest:g}, more than float32 holds; scale them down"
        )
