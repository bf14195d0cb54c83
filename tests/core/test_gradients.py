"""Gradients of a block against the per-copy textbook sums, layer by layer, in float64 and with plain loops.

Every network here comes with its passes written out by hand (`Case.run`): the input and output of each site's layer for one
copy, from which the textbook's outer products follow. Losses are random numbers: these sums hold for any losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside, straight_through
from glr_dist.core.estimator import EstimatorConfig
from glr_dist.core.gradients import (
    Chunk,
    backprop_gradient,
    joint_gradient,
    layerwise_gradient,
    noisy_backprop_gradient,
)
from glr_dist.core.losses import cross_entropy
from glr_dist.core.noise import NoiseConfig
from glr_dist.core.passes import copy_losses, folds, noisy_logits
from glr_dist.core.sites import find_sites

ROWS, PAIRS, SCALE = 3, 4, 0.7
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
        heaviside: the sites that a step reads, and their pre-activations' functions of the inputs.
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


@dataclass(frozen=True, kw_only=True)
class Block:
    """A case with inputs, noise at all sites and losses, all random."""

    case: Case
    x: Tensor
    eps: dict[int, Tensor]
    losses: Tensor


def block(name: str, antithetic: bool) -> Block:
    torch.manual_seed(1)
    case = CASES[name]()
    sites = find_sites(case.model, case.shape)
    x = torch.randn(ROWS, *case.shape)
    eps = {i: torch.randn(PAIRS, ROWS, *site.shape) for i, site in enumerate(sites)}
    return Block(case=case, x=x, eps=eps, losses=torch.rand(2 if antithetic else 1, PAIRS, ROWS))


def config(antithetic: bool, **fields: str | bool) -> EstimatorConfig:
    return EstimatorConfig(copies=PAIRS * (2 if antithetic else 1), antithetic=antithetic, **fields)  # type: ignore[arg-type]


def kept(values: Mapping[int, Tensor]) -> Callable[[], Mapping[int, Tensor]]:
    return lambda: values


def found_gradient(
    b: Block, scheme: str, settings: EstimatorConfig, parts: Sequence[int], fold: bool = False
) -> list[Tensor]:
    """Through the code under test, the copies split in chunks of ``parts`` draws."""
    sites = find_sites(b.case.model, b.case.shape)
    noise, parameters = NoiseConfig(family="gaussian", scale=SCALE), list(b.case.model.parameters())
    losses = b.losses.split(list(parts), dim=1)

    def chunks(indices: Sequence[int]) -> list[Chunk]:
        pieces = zip(losses, *(b.eps[i].split(list(parts)) for i in indices), strict=True)
        return [Chunk(losses=piece[0], noise=kept(dict(zip(indices, piece[1:], strict=True)))) for piece in pieces]

    if scheme == "joint":
        every = chunks(range(len(sites)))
        return joint_gradient(b.case.model, sites, parameters, noise, settings, b.x, every, fold=fold)
    groups = {i: chunks([i]) for i in range(len(sites))}
    return layerwise_gradient(b.case.model, sites, parameters, noise, settings, b.x, groups)


def bit_score(z: Tensor, bit: Tensor) -> Tensor:
    """d/dz log P(bit | z) of Gaussian noise, by autograd in float64."""
    z = z.detach().requires_grad_()
    chance = torch.special.log_ndtr(torch.where(bit > 0, z, -z) / SCALE)
    return torch.autograd.grad(chance.sum(), z)[0]


def textbook_gradient(b: Block, scheme: str, conditioned: Sequence[int]) -> list[Tensor]:
    """Copy by copy: score times loss less the mean loss of the other draws, times the layer's own derivative."""
    parameters = {name: value.detach().double() for name, value in b.case.model.named_parameters()}
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    signs, draws, _ = b.losses.shape
    losses = b.losses.double()
    every = set(b.eps)
    for noised in [every] if scheme == "joint" else [{i} for i in every]:
        for s in range(signs):
            for p in range(draws):
                others = [losses[t, q] for t in range(signs) for q in range(draws) if q != p]
                advantage = losses[s, p] - sum(others) / len(others)
                seen: dict[int, tuple[Tensor, Tensor]] = {}

                def add(
                    site: int, z: Tensor, noised: set[int] = noised, seen: dict[int, tuple[Tensor, Tensor]] = seen,
                    s: int = s, p: int = p,
                ) -> Tensor:  # fmt: skip
                    eps = b.eps[site][p].double() * (1, -1)[s]
                    seen[site] = (z, eps)
                    return z + SCALE * eps if site in noised else z

                inputs = b.case.run(parameters, b.x.double(), add)
                for site in noised:
                    z, eps = seen[site]
                    score = bit_score(z, step(z + SCALE * eps)) if site in conditioned else eps / SCALE
                    d = score * advantage.view(-1, *(1,) * (z.dim() - 1)) / (signs * draws)
                    for name, part in b.case.sums[site](inputs[site], d, parameters).items():
                        total[name] += part
    return list(total.values())


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-6) -> None:
    """To 1e-6 of each parameter's largest component."""
    for a, b in zip(found, expected, strict=True):
        assert float((a.double() - b.double()).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("scheme", ["layerwise", "joint"])
@pytest.mark.parametrize("antithetic", [True, False], ids=["pairs", "single"])
@pytest.mark.parametrize("conditioning", [True, False], ids=["conditioned", "plain"])
def test_gradient_is_the_textbook_sum_over_copies(name: str, scheme: str, antithetic: bool, conditioning: bool) -> None:
    b = block(name, antithetic)
    sites = find_sites(b.case.model, b.case.shape)
    conditioned = [i for i, site in enumerate(sites) if site.binary and conditioning]
    assert conditioned or not conditioning  # every case has a step
    found = found_gradient(b, scheme, config(antithetic, conditioning=conditioning), [PAIRS])
    assert_same(found, textbook_gradient(b, scheme, conditioned))


@pytest.mark.parametrize("name", ["chain", "convolutions", "layer_norm", "called_twice", "embedding"])
@pytest.mark.parametrize("antithetic", [True, False], ids=["pairs", "single"])
def test_copies_as_rows_give_the_same_gradient(name: str, antithetic: bool) -> None:
    b = block(name, antithetic)
    assert folds(b.case.model, find_sites(b.case.model, b.case.shape), b.case.shape)
    settings = config(antithetic)
    assert_same(found_gradient(b, "joint", settings, [PAIRS], fold=True), found_gradient(b, "joint", settings, [PAIRS]))


@pytest.mark.parametrize("name", ["chain", "residual"])
@pytest.mark.parametrize("scheme", ["layerwise", "joint"])
@pytest.mark.parametrize("parts", [(1, 3), (2, 1, 1)])
@pytest.mark.parametrize("antithetic", [True, False], ids=["pairs", "single"])
def test_chunks_of_copies_make_no_difference(name: str, scheme: str, parts: tuple[int, ...], antithetic: bool) -> None:
    b = block(name, antithetic)
    settings = config(antithetic)
    assert_same(found_gradient(b, scheme, settings, parts), found_gradient(b, scheme, settings, [PAIRS]))


def test_a_gradient_leaves_the_parameters_and_their_grad_fields_alone() -> None:
    b = block("chain", True)
    before = [p.clone() for p in b.case.model.parameters()]
    found_gradient(b, "joint", config(True), [PAIRS])
    found_gradient(b, "layerwise", config(True), [PAIRS])
    assert all(torch.equal(a, p) and p.grad is None for a, p in zip(before, b.case.model.parameters(), strict=True))


def test_backprop_is_autograd_and_zero_before_a_step() -> None:
    model, x, labels = chain().model, torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    found = backprop_gradient(model, list(model.parameters()), cross_entropy, x, labels)
    assert all(not part.any() for part in found[:4])
    F.cross_entropy(model(x), labels, reduction="sum").backward()
    assert_same(found[4:], [p.grad for p in list(model.parameters())[4:] if p.grad is not None])


def test_straight_through_reaches_every_layer() -> None:
    torch.manual_seed(0)
    model, x, labels = chain().model, torch.randn(50, 3), torch.ones(50, dtype=torch.long)
    with straight_through():
        found = backprop_gradient(model, list(model.parameters()), cross_entropy, x, labels)
    assert all(part.any() for part in found)


@pytest.mark.parametrize("antithetic", [True, False], ids=["pairs", "single"])
def test_noisy_backprop_is_the_mean_of_autograd_over_copies(antithetic: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2))
    sites, x, labels = find_sites(model, (3,)), torch.randn(ROWS, 3), torch.tensor([0, 1, 1])
    eps = {0: torch.randn(PAIRS, ROWS, 4), 1: torch.randn(PAIRS, ROWS, 2)}
    signs = (1, -1) if antithetic else (1,)
    losses = torch.stack(
        [copy_losses(cross_entropy, noisy_logits(model, sites, eps, s * SCALE, x), labels) for s in signs]
    )
    chunks = [
        Chunk(losses=losses[:, part].detach(), noise=kept({i: e[part] for i, e in eps.items()}))
        for part in (slice(0, 1), slice(1, PAIRS))
    ]
    parameters = list(model.parameters())
    copies = len(signs) * PAIRS
    found = noisy_backprop_gradient(model, sites, parameters, cross_entropy, SCALE, x, labels, chunks, copies)
    for s in signs:
        for p in range(PAIRS):
            h = torch.sigmoid(model[0](x) + s * SCALE * eps[0][p])
            logits = model[2](h) + s * SCALE * eps[1][p]
            (F.cross_entropy(logits, labels, reduction="sum") / copies).backward()
    assert_same(found, [p.grad for p in parameters if p.grad is not None])
