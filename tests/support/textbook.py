"""Small networks with their passes and per-copy gradients written out by hand, in float64 and with plain loops.

A case gives the input of each site's layer for one copy (`Case.run`), and from it and an error signal d the textbook's sum
over the examples (`Case.sums`): outer products, patches under a kernel, rows of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside

Add = Callable[[int, Tensor], Tensor]  # (site, z) -> z with this copy's noise
Sums = Callable[[Tensor, Tensor, dict[str, Tensor]], dict[str, Tensor]]  # (layer input, d, parameters) -> gradients


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, its passes by hand, and the per-copy sum of each site's layer.

    Attributes:
        model: the network.
        shape: of one example.
        run: (parameters, inputs [R, ...], add) -> each site's layer's input.
        sums: per site, from its layer's input and d to the gradients of the parameters.
    """

    model: nn.Module
    shape: tuple[int, ...]
    run: Callable[[dict[str, Tensor], Tensor, Add], list[Tensor]]
    sums: Sequence[Sums]


def step(z: Tensor) -> Tensor:
    return (z >= 0).double()


def outer(name: str) -> Sums:
    """Linear: sum over examples of the outer product of d and the input."""

    def sums(h: Tensor, d: Tensor, p: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = torch.zeros_like(p[f"{name}.weight"])
        for row, signal in zip(h, d, strict=True):
            weight += torch.outer(signal, row)
        return {f"{name}.weight": weight, f"{name}.bias": d.sum(0)}

    return sums


def patches(name: str, kernel: int) -> Sums:
    """Conv2d, stride 1, no padding: sum over examples and positions of d times the patch under it."""

    def sums(h: Tensor, d: Tensor, p: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = torch.zeros_like(p[f"{name}.weight"])
        for row, signal in zip(h, d, strict=True):
            for channel in range(signal.shape[0]):
                for i in range(signal.shape[1]):
                    for j in range(signal.shape[2]):
                        weight[channel] += signal[channel, i, j] * row[:, i : i + kernel, j : j + kernel]
        return {f"{name}.weight": weight, f"{name}.bias": d.sum((0, 2, 3))}

    return sums


def affine(name: str, feature: int) -> Sums:
    """Norms: gain gets d times the normalised input, bias d, summed over all axes but the feature's."""

    def sums(h: Tensor, d: Tensor, p: dict[str, Tensor]) -> dict[str, Tensor]:
        flat = h.flatten(1)  # one group, or one layer: each example by itself
        normal = (
            (flat - flat.mean(1, keepdim=True)) / (flat.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        ).view_as(h)
        rest = [axis for axis in range(d.dim()) if axis != feature]
        return {f"{name}.weight": (d * normal).sum(rest), f"{name}.bias": d.sum(rest)}

    return sums


def rows_of(name: str) -> Sums:
    """Embedding: each row gets the d of the places where it was looked up."""

    def sums(h: Tensor, d: Tensor, p: dict[str, Tensor]) -> dict[str, Tensor]:
        weight = torch.zeros_like(p[f"{name}.weight"])
        for indices, signal in zip(h.long(), d, strict=True):
            for place, index in enumerate(indices.tolist()):
                weight[index] += signal[place]
        return {f"{name}.weight": weight}

    return sums


def linear(p: dict[str, Tensor], name: str, h: Tensor) -> Tensor:
    return F.linear(h, p[f"{name}.weight"], p.get(f"{name}.bias"))


def chain() -> Case:
    model = nn.Sequential(nn.Linear(3, 4), Heaviside(), nn.Linear(4, 4), Heaviside(), nn.Linear(4, 2))

    def run(p: dict[str, Tensor], x: Tensor, add: Add) -> list[Tensor]:
        h1 = step(add(0, linear(p, "0", x)))
        h2 = step(add(1, linear(p, "2", h1)))
        add(2, linear(p, "4", h2))
        return [x, h1, h2]

    return Case(model=model, shape=(3,), run=run, sums=[outer("0"), outer("2"), outer("4")])


def convolutions() -> Case:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 2), Heaviside(), nn.Conv2d(3, 2, 3), nn.GroupNorm(1, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 2)
    )  # fmt: skip

    def run(p: dict[str, Tensor], x: Tensor, add: Add) -> list[Tensor]:
        h1 = step(add(0, F.conv2d(x, p["0.weight"], p["0.bias"])))
        z2 = add(1, F.conv2d(h1, p["2.weight"], p["2.bias"]))
        h3 = add(2, F.group_norm(z2, 1, p["3.weight"], p["3.bias"])).tanh().flatten(1)
        add(3, linear(p, "6", h3))
        return [x, h1, z2, h3]

    return Case(
        model=model, shape=(2, 5, 5), run=run, sums=[patches("0", 2), patches("2", 3), affine("3", 1), outer("6")]
    )


def layer_norm() -> Case:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), Heaviside(), nn.Linear(4, 2))

    def run(p: dict[str, Tensor], x: Tensor, add: Add) -> list[Tensor]:
        z = add(0, linear(p, "0", x))
        h = step(add(1, F.layer_norm(z, (4,), p["1.weight"], p["1.bias"])))
        add(2, linear(p, "3", h))
        return [x, z, h]

    return Case(model=model, shape=(3,), run=run, sums=[outer("0"), affine("1", 1), outer("3")])


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        out: Tensor = self.last(z + Heaviside()(self.second(torch.tanh(z))))
        return out


def residual() -> Case:
    def run(p: dict[str, Tensor], x: Tensor, add: Add) -> list[Tensor]:
        z = add(0, linear(p, "first", x))
        h = z + step(add(1, linear(p, "second", z.tanh())))
        add(2, linear(p, "last", h))
        return [x, z.tanh(), h]

    return Case(model=Residual(), shape=(3,), run=run, sums=[outer("first"), outer("second"), outer("last")])


def called_twice() -> Case:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            step = Heaviside()
            out: Tensor = self.last(step(self.core(step(self.core(x)))))
            return out

    def run(p: dict[str, Tensor], x: Tensor, add: Add) -> list[Tensor]:
        h1 = step(add(0, linear(p, "core", x)))
        h2 = step(add(1, linear(p, "core", h1)))
        add(2, linear(p, "last", h2))
        return [x, h1, h2]

    return Case(model=Twice(), shape=(3,), run=run, sums=[outer("core"), outer("core"), outer("last")])


def tied() -> Case:
    model = nn.Sequential(nn.Linear(3, 3), Heaviside(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    model[2].weight = model[0].weight

    def run(p: dict[str, Tensor], x: Tensor, add: Add) -> list[Tensor]:
        h1 = step(add(0, linear(p, "0", x)))
        h2 = add(1, F.linear(h1, p["0.weight"], p["2.bias"])).tanh()
        add(2, linear(p, "4", h2))
        return [x, h1, h2]

    def second(h: Tensor, d: Tensor, p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"0.weight": torch.einsum("ro,ri->oi", d, h), "2.bias": d.sum(0)}

    return Case(model=model, shape=(3,), run=run, sums=[outer("0"), second, outer("4")])


class Words(nn.Module):
    """Images as words: pixel values pick rows of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(5, 2), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(Heaviside()(self.table((4 * x.abs().clamp(max=1)).long())).flatten(1))
        return out


def embedding() -> Case:
    def run(p: dict[str, Tensor], x: Tensor, add: Add) -> list[Tensor]:
        words = (4 * x.abs().clamp(max=1)).long()
        h = step(add(0, p["table.weight"][words])).flatten(1)
        add(1, linear(p, "last", h))
        return [words.double(), h]

    return Case(model=Words(), shape=(4,), run=run, sums=[rows_of("table"), outer("last")])


CASES = {make.__name__: make for make in (chain, convolutions, layer_norm, residual, called_twice, tied, embedding)}
