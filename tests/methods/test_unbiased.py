"""The estimator's mean is the exact gradient: every family x scheme x source x antithetic x baseline x conditioning x loss.

Each seed gives an independent estimate (with the table source: from a table of its own). All seeds go through the pipeline
at once: the networks hold one copy of their parameters per seed, and row r reads the (r mod SEEDS)-th, so one gradient
call returns SEEDS independent gradients. Their spread gives the standard error.

A component of the mean that is off by more than LIMIT standard errors is measured again from other seeds, with four times
the rows: a bias stays, and by then is twice as many standard errors. Chance gives 1 in 8,000 components (99 degrees of
freedom) above 4, so a few times in all of these tests, and then again in 1 of 8,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import exact
import numpy as np
import pytest
import torch
from seeded import COPIES, ENUMERATED, INTEGRATED, LABEL, LIMIT, LOSSES, SCALE, SEEDS, SeededNetwork, unit_noise
from torch import Tensor

from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.noise import GeneratorSource, NoiseSource, TableSource
from glr_dist.core.passes import copy_losses, noisy_logits
from glr_dist.core.probing import find_sites
from glr_dist.core.sites import Site
from glr_dist.core.taps import Hooks
from glr_dist.core.units import ALL_SITES
from glr_dist.methods import method as methods
from glr_dist.methods.method import Net, Observed, named_method

ROWS = 60  # of each seed


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What decides the noise and the logits."""

    net: str
    family: str
    scheme: str
    antithetic: bool
    source: str


@dataclass(frozen=True, kw_only=True)
class Passes:
    """The noisy passes of a setting: for each work group (all sites, or one), its chunks of (noise, logits [S, P, R, 2])."""

    setting: Setting
    model: SeededNetwork
    sites: list[Site]
    x: Tensor
    rows: int
    groups: dict[int, list[tuple[dict[int, Tensor], Tensor]]]


def sources(setting: Setting, count: int, seeds: range) -> list[NoiseSource]:
    """A source per seed; tables are fresh, and twice as long as the largest unit."""
    if setting.source == "generator":
        return [GeneratorSource(setting.family) for _ in seeds]
    return [TableSource.make(setting.family, 2 * count, np.random.SeedSequence([seed, 7])) for seed in seeds]


def observe(setting: Setting, first_seed: int = 0, rows: int = ROWS) -> Passes:
    """Run all noisy passes of a setting, each unit's copies in two unequal chunks."""
    seeds = range(first_seed, first_seed + SEEDS)
    model = SeededNetwork(setting.net)
    sites = find_sites(model, (len(model.net.x),))
    x = torch.tensor(model.net.x).repeat(rows * SEEDS, 1)
    units = {ALL_SITES: list(range(len(sites)))} if setting.scheme == "joint" else {i: [i] for i in range(len(sites))}
    chunks = (1, 2) if setting.antithetic else (2, 4)
    largest = max(chunks) * rows * sum(site.size for site in sites)
    every = dict(zip(seeds, sources(setting, largest, seeds), strict=True))
    signs = (1.0, -1.0) if setting.antithetic else (1.0,)
    groups: dict[int, list[tuple[dict[int, Tensor], Tensor]]] = {}
    with torch.no_grad():
        for key, indices in units.items():
            groups[key] = []
            for unit, draws in enumerate(chunks):
                eps = unit_noise(every, sites, indices, draws, rows, unit)
                scale = SCALE[setting.family]
                logits = [noisy_logits(Hooks(model, sites), eps, sign * scale, x) for sign in signs]
                groups[key].append((eps, torch.stack(logits)))
    return Passes(setting=setting, model=model, sites=sites, x=x, rows=rows, groups=groups)


def estimates(seen: Passes, loss: str, baseline: str, conditioning: bool) -> list[Tensor]:
    """Each parameter's estimates [SEEDS, ...], each a mean over its seed's rows."""
    setting = seen.setting
    config = EstimatorConfig(
        scheme=setting.scheme, copies=COPIES, antithetic=setting.antithetic, baseline=baseline, conditioning=conditioning
    )  # fmt: skip
    config.check()
    noise = NoiseConfig(family=setting.family, scale=SCALE[setting.family], source=setting.source)
    labels, method = torch.full((len(seen.x),), LABEL), named_method("glr")
    units = [
        Observed(
            kind=kind,
            losses=torch.stack([copy_losses(LOSSES[loss], one_sign, labels) for one_sign in logits]),
            noise=lambda eps=eps: eps,  # type: ignore[misc]
        )
        for kind in method.kinds(seen.sites, 0, config)
        for eps, logits in seen.groups[kind.site]
    ]
    net = Net.of(seen.model, seen.sites, loss=LOSSES[loss], noise=noise, estimator=config)
    return [total / seen.rows for total in method.gradient(net, seen.x, labels, units, "here").parts]


@cache
def reference(setting: Setting, loss: str) -> list[Tensor]:
    net = exact.NETWORKS[setting.net]
    return exact.exact_gradient(net, setting.scheme, loss, LABEL, setting.family, SCALE[setting.family])


def standard_errors_off(seen: Passes, loss: str, baseline: str, conditioning: bool) -> float:
    """How far the worst component's mean over seeds is off, in its own standard errors; measured again if beyond LIMIT."""

    def measure(seen: Passes) -> float:
        estimated = estimates(seen, loss, baseline, conditioning)
        flat = torch.cat([e.double().flatten(1) for e in estimated], dim=1)  # [SEEDS, D]
        want = torch.cat([t.flatten() for t in reference(seen.setting, loss)])
        error = flat.std(0) / SEEDS**0.5 + 1e-6  # 1e-6: float32 sums
        return float(((flat.mean(0) - want).abs() / error).max())

    first = measure(seen)
    return first if first < LIMIT else measure(observe(seen.setting, first_seed=SEEDS, rows=4 * ROWS))


@pytest.fixture(scope="module")
def seen(request: pytest.FixtureRequest) -> Passes:
    """The noisy passes of a setting, shared by the tests that estimate from them."""
    return observe(request.param)


def settings(nets: Sequence[str], schemes: Sequence[str] = ("layerwise", "joint"), **fixed: bool) -> list[object]:
    return [
        pytest.param(setting, id=f"{net}-{family}-{scheme}-{'pairs' if antithetic else 'single'}-{source}")
        for net in nets
        for family in SCALE
        for scheme in schemes
        for antithetic in (True, False)
        for source in ("table", "generator")
        for setting in [Setting(net=net, family=family, scheme=scheme, antithetic=antithetic, source=source)]
        if fixed.get("antithetic", antithetic) == antithetic
    ]


@pytest.mark.parametrize("seen", settings(ENUMERATED), indirect=True)
@pytest.mark.parametrize("baseline", ["leave-out", "none"])
@pytest.mark.parametrize("conditioning", [True, False], ids=["conditioned", "plain"])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_mean_is_the_enumerated_gradient(seen: Passes, loss: str, conditioning: bool, baseline: str) -> None:
    assert [site.binary for site in seen.sites] == [True, True, False]
    assert standard_errors_off(seen, loss, baseline, conditioning) < LIMIT


@pytest.mark.parametrize("seen", settings(INTEGRATED), indirect=True)
@pytest.mark.parametrize("baseline", ["leave-out", "none"])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_mean_is_the_integrated_gradient(seen: Passes, loss: str, baseline: str) -> None:
    assert not any(site.binary for site in seen.sites)  # conditioning is on, and must not apply
    assert standard_errors_off(seen, loss, baseline, True) < LIMIT


def leave_one_out(losses: Tensor, baseline: str) -> Tensor:
    """Wrong under antithetic pairs: the partner's loss depends on the copy's own noise."""
    copies = losses.shape[0] * losses.shape[1]
    return losses - (losses.sum((0, 1)) - losses) / (copies - 1)


def inflated_mean(losses: Tensor, baseline: str) -> Tensor:
    """Wrong under antithetic pairs: there the mean of all cancels, and so there is nothing for K/(K-1) to make good."""
    copies = losses.shape[0] * losses.shape[1]
    return (losses - losses.mean((0, 1))) * (copies / (copies - 1))


@pytest.mark.parametrize("seen", settings(ENUMERATED[:1], antithetic=True), indirect=True)
@pytest.mark.parametrize("wrong", [leave_one_out, inflated_mean])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_a_wrong_baseline_is_caught(seen: Passes, loss: str, wrong: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "advantages", wrong)
    assert standard_errors_off(seen, loss, "leave-out", False) > LIMIT


@pytest.mark.parametrize("seen", settings(ENUMERATED[:1]), indirect=True)
@pytest.mark.parametrize("loss", list(LOSSES))
def test_conditioning_lowers_the_variance(seen: Passes, loss: str) -> None:
    plain = estimates(seen, loss, "leave-out", False)
    conditioned = estimates(seen, loss, "leave-out", True)
    for with_scores, with_bits in zip(plain[:4], conditioned[:4], strict=True):  # the two hidden layers
        assert with_bits.var(0).sum() < with_scores.var(0).sum()
    for with_scores, with_bits in zip(plain[4:], conditioned[4:], strict=True):
        assert torch.equal(with_scores, with_bits)  # nothing to condition on at the output
