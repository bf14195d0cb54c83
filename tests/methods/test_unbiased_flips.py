"""Turned bits: the estimate's mean is the enumerated gradient, as `test_unbiased` shows it for noisy copies."""

from __future__ import annotations

from dataclasses import dataclass

import exact
import numpy as np
import pytest
import torch
from seeded import COPIES, ENUMERATED, LABEL, LIMIT, LOSSES, SCALE, SEEDS, SeededNetwork, unit_noise
from torch import Tensor

from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.noise import GeneratorSource
from glr_dist.core.passes import PICKS
from glr_dist.core.probing import find_sites
from glr_dist.core.units import FlipKind
from glr_dist.methods import flips as flips_module
from glr_dist.methods import turning
from glr_dist.methods.method import Net, Observed, named_method

ROWS = 20  # of each seed: an estimate by turned bits is nearer


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
        scheme=setting.scheme, copies=COPIES, base_draws=2, base_antithetic=setting.antithetic, flips=(setting.flips,)
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

    first = measure(0, ROWS)
    return first if first < LIMIT else measure(SEEDS, 4 * ROWS)


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


def unweighed(net: Net, kind: FlipKind, z: Tensor) -> Tensor:
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
