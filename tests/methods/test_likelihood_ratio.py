"""The likelihood-ratio gradient of a block, by both schemes, against the per-copy textbook sums of `textbook`.

Losses are random numbers: these sums hold for any losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from textbook import CASES, Case, step
from torch import Tensor

from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.losses import cross_entropy
from glr_dist.core.passes import folds
from glr_dist.core.probing import find_sites
from glr_dist.core.units import ALL_SITES
from glr_dist.methods.method import Net, Observed, named_method

ROWS, PAIRS, SCALE = 3, 4, 0.7


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
    """Through the code under test, the copies split in units of ``parts`` draws."""
    sites, method = find_sites(b.case.model, b.case.shape), named_method("glr")
    estimator, noise = replace(settings, scheme=scheme), NoiseConfig(family="gaussian", scale=SCALE)
    net = Net.of(b.case.model, sites, fold=fold, loss=cross_entropy, noise=noise, estimator=estimator)
    units = []
    for kind in method.kinds(sites, 0, estimator):
        noised = b.eps if kind.site == ALL_SITES else {kind.site: b.eps[kind.site]}
        cut = {i: eps.split(list(parts)) for i, eps in noised.items()}
        for number, losses in enumerate(b.losses.split(list(parts), dim=1)):
            units.append(Observed(kind=kind, losses=losses, noise=kept({i: eps[number] for i, eps in cut.items()})))
    return method.gradient(net, b.x, torch.zeros(ROWS), units, "here").parts


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
