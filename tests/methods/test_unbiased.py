"""The estimator's mean is the exact gradient: every family x scheme x source x antithetic x baseline x conditioning x loss.

Each seed gives an independent estimate (with the table source: from a table of its own). All seeds go through the pipeline
at once: the networks hold one copy of their parameters per seed, and row r reads the (r mod SEEDS)-th, so one gradient
call returns SEEDS independent gradients. Their spread gives the standard error.

A component of the mean that is off by more than LIMIT standard errors is measured again from other seeds, with four times
the rows: a bias stays, and by then is twice as many standard errors. Chance gives 1 in 8,000 components (99 degrees of
freedom) above 4, so a few times in all of these tests, and then again in 1 of 8,000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import exact
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glr_dist.core.activations import heaviside
from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.losses import cross_entropy, zero_one
from glr_dist.core.noise import GeneratorSource, NoiseSource, TableSource
from glr_dist.core.passes import PICKS, copy_losses, noisy_logits, split_noise
from glr_dist.core.probing import find_sites
from glr_dist.core.sites import Site
from glr_dist.core.units import ALL_SITES, FlipKind
from glr_dist.methods import flips as flips_module
from glr_dist.methods import method as methods
from glr_dist.methods import turning
from glr_dist.methods.method import Net, Observed, named_method

SEEDS = 100
ROWS = 60  # of each seed
FLIP_ROWS = 20  # where bits are turned, each seed's estimate is nearer
COPIES = 6
LABEL = 1
LIMIT = 4.0
SCALE = {"gaussian": 0.8, "laplace": 0.6}
LOSSES = {"cross-entropy": cross_entropy, "zero-one": zero_one, "user": exact.users_loss}
PHI: dict[str, Callable[[Tensor], Tensor]] = {
    "two hidden Heaviside layers": heaviside,
    "a Heaviside layer called twice, with a skip": heaviside,
    "a sigmoid unit": torch.sigmoid,
    "a step with a skip around it": lambda z: heaviside(z) + 0.5 * z,
}
ENUMERATED = [name for name, net in exact.NETWORKS.items() if net.enumerated]
INTEGRATED = [name for name, net in exact.NETWORKS.items() if not net.enumerated]


class SeededLinear(nn.Module):
    """SEEDS equal linear layers; row r goes through the (r mod SEEDS)-th."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.float().repeat(SEEDS, 1, 1))
        self.bias = nn.Parameter(bias.float().repeat(SEEDS, 1))

    def forward(self, h: Tensor) -> Tensor:
        lane = torch.arange(len(h)) % SEEDS
        return torch.einsum("ri,roi->ro", h, self.weight[lane]) + self.bias[lane]


class SeededNetwork(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.net, self.phi = exact.NETWORKS[name], PHI[name]
        self.layers = nn.ModuleList(SeededLinear(*layer) for layer in self.net.parameters())

    def forward(self, x: Tensor) -> Tensor:
        return self.net.wiring(lambda site, layer, h: self.layers[layer](h), lambda site, z: self.phi(z), x)


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


def unit_noise(
    every: dict[int, NoiseSource], sites: Sequence[Site], indices: Sequence[int], draws: int, rows: int, unit: int
) -> dict[int, Tensor]:
    """The noise of one work unit of each seed, seeds side by side: {site: [P, rows * SEEDS, N]}."""
    count = draws * rows * sum(sites[i].size for i in indices)
    parts = []
    for seed, source in every.items():
        values = source.values(np.random.SeedSequence(seed, spawn_key=(0, indices[0], unit)), count)
        parts.append(split_noise(values, draws, rows, sites, indices))
    return {i: torch.stack([part[i] for part in parts], dim=2).flatten(1, 2) for i in indices}


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
                logits = [noisy_logits(model, sites, eps, sign * scale, x) for sign in signs]
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


@dataclass(frozen=True, kw_only=True)
class Flips:
    """How bits are turned: the scheme, how many are drawn (0: each), pairs of base draws, copies as rows or under vmap."""

    net: str
    family: str
    scheme: str
    flips: int
    antithetic: bool
    fold: bool


def flip_estimates(setting: Flips, loss: str, first_seed: int, rows: int) -> list[Tensor]:
    """As `estimates`, for the schemes that turn bits; a unit holds two flips of each base draw."""
    config = EstimatorConfig(
        scheme=setting.scheme, copies=COPIES, base_draws=2, base_antithetic=setting.antithetic, flips=setting.flips
    )  # fmt: skip
    config.check()
    seeds, model, method = range(first_seed, first_seed + SEEDS), SeededNetwork(setting.net), named_method("glr")
    sites = find_sites(model, (len(model.net.x),))
    x, labels = torch.tensor(model.net.x).repeat(rows * SEEDS, 1), torch.full((rows * SEEDS,), LABEL)
    noise = NoiseConfig(family=setting.family, scale=SCALE[setting.family])
    net = Net.of(model, sites, fold=setting.fold, loss=LOSSES[loss], noise=noise, estimator=config)
    every = {seed: GeneratorSource(setting.family) for seed in seeds}
    units = []
    for whole in method.kinds(sites, 0, config):
        for number, (kind, draws) in enumerate(whole.pieces(6)):
            indices = range(len(sites)) if kind.noises_all else [kind.site]
            eps: dict[int, Tensor] = dict(unit_noise(every, sites, indices, draws, rows, number))
            if isinstance(kind, FlipKind) and kind.drawn:
                key = [np.random.SeedSequence(seed, spawn_key=(1, kind.site, number)) for seed in seeds]
                picks = [every[seed].values(one, draws * rows) for seed, one in zip(seeds, key, strict=True)]
                eps[PICKS] = torch.stack([part.view(draws, rows) for part in picks], dim=2).flatten(1)
            with torch.no_grad():
                losses = method.losses(net, kind, eps, x, labels, "here")
            units.append(Observed(kind=kind, losses=losses.unflatten(0, (kind.signs, -1)), noise=lambda eps=eps: eps))  # type: ignore[misc]
    return [total / rows for total in method.gradient(net, x, labels, units, "here").parts]


def flips_off(setting: Flips, loss: str) -> float:
    """As `standard_errors_off`."""
    net, scheme = exact.NETWORKS[setting.net], "joint" if setting.scheme == "joint-flips" else "layerwise"
    scale = SCALE[setting.family]
    want = torch.cat([t.flatten() for t in exact.exact_gradient(net, scheme, loss, LABEL, setting.family, scale)])

    def measure(first_seed: int, rows: int) -> float:
        flat = torch.cat([e.double().flatten(1) for e in flip_estimates(setting, loss, first_seed, rows)], dim=1)
        error = flat.std(0) / SEEDS**0.5 + 1e-6
        return float(((flat.mean(0) - want).abs() / error).max())

    first = measure(0, FLIP_ROWS)
    return first if first < LIMIT else measure(SEEDS, 4 * FLIP_ROWS)


FLIPS = [
    pytest.param(
        Flips(net=net, family=family, scheme=scheme, flips=flips, antithetic=antithetic, fold=fold),
        id=f"{net}-{family}-{scheme}-{flips or 'each'}-{'pairs' if antithetic else 'single'}",
    )
    for net in ENUMERATED
    for family in SCALE
    for scheme in ("flips", "joint-flips")
    for flips, antithetic, fold in ((0, False, False), (0, True, True), (2, True, False), (2, False, True))
    if not (fold and net == "a Heaviside layer called twice, with a skip")  # its copies can't be rows
]


@pytest.mark.parametrize("setting", FLIPS)
@pytest.mark.parametrize("loss", list(LOSSES))
def test_mean_over_turned_bits_is_the_enumerated_gradient(setting: Flips, loss: str) -> None:
    assert flips_off(setting, loss) < LIMIT


def unweighed(family: str, z: Tensor, flips: int) -> Tensor:
    """Wrong where flips are drawn: all bits are weighed as if they were drawn alike."""
    return torch.ones_like(z, dtype=torch.float64)


def forgotten(self: turning._Turn, z: Tensor) -> Tensor:
    """Wrong: whether the base draw's bit was 1 is forgotten, so differences have the wrong sign there."""
    base = look(self, z)
    self.direction = torch.ones_like(self.direction)
    return base


look = turning._Turn.look


@pytest.mark.parametrize("scheme", ["flips", "joint-flips"])
def test_flips_that_are_not_weighed_by_their_chance_are_caught(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flips_module, "drawing_weights", unweighed)
    setting = Flips(net=ENUMERATED[0], family="gaussian", scheme=scheme, flips=2, antithetic=False, fold=True)
    assert flips_off(setting, "user") > LIMIT


@pytest.mark.parametrize("scheme", ["flips", "joint-flips"])
def test_a_forgotten_base_bit_is_caught(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turning._Turn, "look", forgotten)
    setting = Flips(net=ENUMERATED[0], family="gaussian", scheme=scheme, flips=0, antithetic=False, fold=True)
    assert flips_off(setting, "user") > LIMIT
