"""Interval networks: what a network may do anywhere in a ball, as a network that is trained like any other.

Bounds of a network of thresholds are a network of thresholds again. With centre c and radius r of what it reads, a layer
gives ``W c + b -+ |W| r``; a Heaviside unit turns its two bounds into two bits, low and high, and the worst lead of the
label y over class c is, with ``D = V_y - V_c``,

    lead_c = max(D, 0) low + min(D, 0) high + d_y - d_c,

linear in each of the 2 H bits. The network's outputs are minus these leads, 0 for the label, so that cross-entropy and the
0-1 loss of them are the worst-case ones; with radius 0 they are those of the network itself. Trained with noise on the
bounds, as by flips, a low bound may exceed its high one, which does no harm.

It holds the very parameters of the network that it is made of, so whoever trains the one trains the other. These bounds are
plain float32; a proof takes those of `glr_dist.attacks.exact.intervals`.

Shapes: R rows (examples), P copies, N values of a layer, of which there are 2 N here (the low ones first), C classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from glr_dist.core.readers import BitReader
from glr_dist.core.taps import AskedRow
from glr_dist.errors import UserError
from glr_dist.models.feedforward import feedforward
from glr_dist.models.networks import Thermometer

_WHO = "loss = 'certified'"


class IntervalNetwork(AskedRow):
    """The worst case of a network: [R, 2 N + 1], as `questions` makes them, to minus the label's leads [R, C].

    Raises:
        UserError: for a network with layers of which no bounds can be had; see `glr_dist.models.feedforward`.
    """

    def __init__(self, model: nn.Module, shape: Sequence[int]) -> None:
        """``shape``: of an input of the network."""
        layers = feedforward(model, _WHO)
        parts: list[tuple[str, nn.Module]] = [("bounds", _Bounds(shape))]
        parts += [(name.replace(".", "_"), _doubled(layer)) for name, layer in layers[:-1]]
        name, readout = layers[-1]
        assert isinstance(readout, nn.Linear)
        super().__init__(OrderedDict([*parts, (name.replace(".", "_"), WorstLeads(readout))]))
        if [id(p) for p in self.parameters()] != [id(p) for p in model.parameters()]:
            raise UserError(f"{_WHO}: the network holds its layers in another order than it calls them; reorder them")
        self.train(model.training)


def questions(x: Tensor, labels: Tensor, radius: Tensor) -> Tensor:
    """What an interval network is asked: the ball around each input, within [0, 1], and the label, float32 [R, 2 N + 1].

    For inputs x [R, ...] in [0, 1], labels [R] and a radius for each row, [R].
    """
    flat, reach = x.flatten(1), radius.unsqueeze(1).to(x)
    low, high = (flat - reach).clamp_(0.0, 1.0), (flat + reach).clamp_(0.0, 1.0)
    return torch.cat([low, high, labels.unsqueeze(1).to(x)], dim=1)


class _Bounds(nn.Module):
    """From questions [R, 2 N + 1] to bounds [R, 2 C, ...], for inputs of shape [C, ...]."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = (2 * shape[0], *shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :-1].reshape(len(x), *self.shape)


class _IntervalLinear(BitReader):
    """Bounds [..., 2 N] of a Linear layer's inputs to those of its outputs, [..., 2 N']."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, bounds: Tensor) -> Tensor:
        low, high = bounds.chunk(2, dim=-1)
        middle = linear((low + high) * 0.5, self.weight, self.bias)
        reach = linear((high - low) * 0.5, self.weight.abs())
        return torch.cat([middle - reach, middle + reach], dim=-1)

    def columns(self) -> Tensor:
        up, down = self.weight.detach().t().clamp(min=0.0), self.weight.detach().t().clamp(max=0.0)
        return torch.cat([torch.cat([up, down], dim=1), torch.cat([down, up], dim=1)])


class _IntervalConv2d(nn.Module):
    """Bounds [R, 2 N, H, W] of a Conv2d layer's inputs to those of its outputs."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.how: tuple[Any, ...] = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def forward(self, bounds: Tensor) -> Tensor:
        low, high = bounds.chunk(2, dim=-3)
        middle = conv2d((low + high) * 0.5, self.weight, self.bias, *self.how)
        reach = conv2d((high - low) * 0.5, self.weight.abs(), None, *self.how)
        return torch.cat([middle - reach, middle + reach], dim=-3)


class _Doubled(nn.Module):
    """A layer without parameters that makes more values of each: applied to both bounds."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, bounds: Tensor) -> Tensor:
        return torch.cat([self.layer(end) for end in bounds.chunk(2, dim=1)], dim=1)


def _doubled(layer: nn.Module) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return _IntervalLinear(layer)
    if isinstance(layer, nn.Conv2d):
        return _IntervalConv2d(layer)
    return _Doubled(layer) if isinstance(layer, Thermometer) else layer  # the others grow, value by value


class WorstLeads(BitReader):
    """Minus the least leads of the label over all classes that a Linear read-out may give: [P * R, 2 H] -> [P * R, C]."""

    takes_inputs = True

    def __init__(self, readout: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = readout.weight, readout.bias

    def forward(self, bounds: Tensor, x: Tensor) -> Tensor:
        """``x``: the questions [R, 2 N + 1], of which the bounds may hold several copies, one after the other."""
        labels, copies = x[:, -1].long(), bounds.unflatten(0, (-1, len(x)))
        counts = labels.bincount(minlength=len(self.weight)).tolist()
        order = None if bool((labels.diff() >= 0).all()) else labels.argsort(stable=True)  # a run's rows come in order
        parts = (copies if order is None else copies[:, order]).split(counts, dim=1)
        found = torch.cat([self._of_label(label, part) for label, part in enumerate(parts) if part.shape[1]], dim=1)
        return (found if order is None else found[:, order.argsort()]).flatten(0, 1)

    def _of_label(self, label: int, bounds: Tensor) -> Tensor:
        difference = self.weight - self.weight[label]  # of minus the lead
        matrix = torch.cat([difference.clamp(max=0.0), difference.clamp(min=0.0)], dim=1)  # times low, times high
        return linear(bounds, matrix, None if self.bias is None else self.bias - self.bias[label])

    def columns(self) -> Tensor:
        """How minus the leads move with each bit: a matrix for each label, [C, 2 H, C]."""
        weight = self.weight.detach()
        difference = weight.unsqueeze(0) - weight.unsqueeze(1)  # [labels, C, H]
        return torch.cat([difference.clamp(max=0.0), difference.clamp(min=0.0)], dim=2).mT
