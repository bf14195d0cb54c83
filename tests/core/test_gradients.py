"""Gradients of a block against the per-copy textbook sums of `textbook`, and the controls against autograd.

Losses are random numbers: these sums hold for any losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from textbook import CASES, Case, chain, step
from torch import Tensor, nn

from glr_dist.core.activations import straight_through
from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.gradients import (
    Chunk,
    backprop_gradient,
    joint_gradient,
    layerwise_gradient,
    noisy_backprop_gradient,
)
from glr_dist.core.losses import cross_entropy
from glr_dist.core.passes import copy_losses, folds, noisy_logits
from glr_dist.core.sites import find_sites
from glr_dist.errors import UserError

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
    found = backprop_gradient(model, list(model.parameters()), cross_entropy, x, labels, "here")
    assert all(not part.any() for part in found[:4])
    F.cross_entropy(model(x), labels, reduction="sum").backward()
    assert_same(found[4:], [p.grad for p in list(model.parameters())[4:] if p.grad is not None])


def test_straight_through_reaches_every_layer() -> None:
    torch.manual_seed(0)
    model, x, labels = chain().model, torch.randn(50, 3), torch.ones(50, dtype=torch.long)
    with straight_through():
        found = backprop_gradient(model, list(model.parameters()), cross_entropy, x, labels, "here")
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
    found = noisy_backprop_gradient(model, sites, parameters, cross_entropy, SCALE, x, labels, chunks, copies, "here")
    for s in signs:
        for p in range(PAIRS):
            h = torch.sigmoid(model[0](x) + s * SCALE * eps[0][p])
            logits = model[2](h) + s * SCALE * eps[1][p]
            (F.cross_entropy(logits, labels, reduction="sum") / copies).backward()
    assert_same(found, [p.grad for p in parameters if p.grad is not None])


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda logits, labels: cross_entropy(logits, labels) * float("nan"),
            r"^loss: here returned nan; losses must be",
        ),
        (F.cross_entropy, r"^loss: here returned shape \(\) for 3 examples"),
    ],
    ids=["nan", "mean"],
)
def test_autograd_of_losses_that_cannot_be_names_where(loss: Callable[[Tensor, Tensor], Tensor], message: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2))
    parameters, x, labels = list(model.parameters()), torch.randn(ROWS, 3), torch.tensor([0, 1, 1])
    with pytest.raises(UserError, match=message):
        backprop_gradient(model, parameters, loss, x, labels, "here")
    sites, chunk = (
        find_sites(model, (3,)),
        Chunk(losses=torch.zeros(2, 1, ROWS), noise=kept({1: torch.randn(1, ROWS, 2)})),
    )
    with pytest.raises(UserError, match=message):
        noisy_backprop_gradient(model, sites, parameters, loss, SCALE, x, labels, [chunk], 2, "here")
