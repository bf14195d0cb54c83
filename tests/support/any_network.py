"""Networks as people might bring them: layers of all sorts in random order, some of which no training can allow for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside, heaviside

INPUTS, CLASSES = 6, 3


class Call(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        return self.function(z)


class Around(nn.Module):
    """Adds what an inner network makes of its input, in place or not."""

    def __init__(self, inner: nn.Module, *, in_place: bool) -> None:
        super().__init__()
        self.inner, self.in_place = inner, in_place

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.inner(z)
        if self.in_place:
            out += z
            return out
        return out + z


class Twice(nn.Module):
    """A layer called twice, with a step between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.core = nn.Linear(width, width)

    def forward(self, z: Tensor) -> Tensor:
        return self.core(heaviside(self.core(z)))  # type: ignore[no-any-return]


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:  # type: ignore[override]
        return torch.where(z >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        return g


class Memory(nn.Module):
    """Remembers how often it was called, or a mean of what it saw, where no state dict has it."""

    def __init__(self, *, counts: bool) -> None:
        super().__init__()
        self.counts, self.kept = counts, 0.0

    def forward(self, z: Tensor) -> Tensor:
        out = z + 0.3 * self.kept
        self.kept = self.kept + 1.0 if self.counts else float(z.detach().mean()) + 0.7
        return out


class Positions(nn.Module):
    """A table read by the place in the batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(300, width))

    def forward(self, z: Tensor) -> Tensor:
        return z + self.table[: len(z)]


class SignWeights(nn.Linear):
    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, torch.where(self.weight >= 0, 1.0, -1.0), self.bias)


def if_large(z: Tensor) -> Tensor:
    return z / 10 if z.abs().max() > 1e6 else z.tanh()


FINE: dict[str, Callable[[int], nn.Module]] = {
    "heaviside": lambda n: Heaviside(),
    "relu in place": lambda n: nn.ReLU(inplace=True),
    "tanh": lambda n: nn.Tanh(),
    "layer norm": nn.LayerNorm,
    "group norm": lambda n: nn.GroupNorm(1, n),
    "prelu": lambda n: nn.PReLU(),
    "batch norm": nn.BatchNorm1d,
    "dropout": lambda n: nn.Dropout(0.2),
    "linear": lambda n: nn.Linear(n, n),
    "no bias": lambda n: nn.Linear(n, n, bias=False),
    "around": lambda n: Around(nn.Linear(n, n), in_place=False),
    "around in place": lambda n: Around(nn.Sequential(nn.Linear(n, n), Call(torch.tanh)), in_place=True),
    "twice": Twice,
    "own function": lambda n: Call(Step.apply),
    "if": lambda n: Call(if_large),
    "numpy": lambda n: Call(lambda z: torch.from_numpy(np.sign(z.detach().numpy()))),
    "convolution": lambda n: nn.Sequential(
        nn.Unflatten(1, (1, n)), nn.Conv1d(1, 2, 1), nn.Flatten(), nn.Linear(2 * n, n)
    ),
    "frozen": lambda n: nn.Linear(n, n).requires_grad_(False),
}
REFUSED: dict[str, Callable[[int], nn.Module]] = {
    "noise": lambda n: Call(lambda z: z + 0.1 * torch.randn_like(z)),
    "functional dropout": lambda n: Call(lambda z: nn.functional.dropout(z + 1.0, 0.5)),
    "numpy's noise": lambda n: Call(lambda z: z + float(np.random.rand())),  # noqa: NPY002
    "own batch norm": lambda n: Call(lambda z: z - z.mean(0)),
    "neighbour": lambda n: Call(lambda z: z + 0.5 * z.roll(1, 0)),
    "count": lambda n: Memory(counts=True),
    "mean": lambda n: Memory(counts=False),
    "positions": Positions,
    "not finite": lambda n: _with_nan(nn.Linear(n, n)),
    "double": lambda n: nn.Linear(n, n).double(),
    "gru": lambda n: nn.Sequential(nn.GRUCell(n, n)),
    "sign weights": lambda n: SignWeights(n, n),
}


def _with_nan(layer: nn.Linear) -> nn.Linear:
    with torch.no_grad():
        layer.bias[0] = float("nan")
    return layer


@st.composite
def networks(draw: Callable[..., Any]) -> tuple[nn.Sequential, list[str]]:
    """A network from [B, INPUTS] to [B, CLASSES], and its layers' names; one of them may be of REFUSED."""
    torch.manual_seed(draw(st.integers(0, 2**32)))
    width = draw(st.integers(2, 6))  # a norm of one number is 0, and moves no weight
    names = draw(st.lists(st.sampled_from(list(FINE)), max_size=4))
    if draw(st.booleans()):
        names.insert(0, draw(st.sampled_from(list(REFUSED))))  # right behind the first layer, whose outputs differ
    layers = [({**FINE, **REFUSED}[name])(width) for name in names]
    model = nn.Sequential(nn.Linear(INPUTS, width), *layers, nn.Linear(width, CLASSES))
    if draw(st.booleans()):  # ties: whole weights, and pre-activations that are 0 for some inputs
        with torch.no_grad():
            for p in model[0].parameters():
                p.copy_(torch.randint(-1, 2, p.shape))
            model[0].weight[0] = 1.0
    if draw(st.integers(0, 4)) == 0 and len(layers) > 1:  # a layer that stands at two places
        model.insert(len(model) - 1, model[draw(st.integers(1, len(layers)))])
        names.append("shared")
    return model, names
