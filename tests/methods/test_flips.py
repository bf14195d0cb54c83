"""Turned bits: three ways to evaluate them give the same, and what is drawn is drawn as often as its weight says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import (
    CONV,
    STEPS,
    check_that_crews_agree,
    check_that_it_lasts,
    small_config,
    small_task,
    train_small,
)
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside
from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.losses import Loss, cross_entropy, zero_one
from glr_dist.core.passes import PICKS
from glr_dist.core.probing import find_sites
from glr_dist.core.readers import columns
from glr_dist.core.units import FlipKind
from glr_dist.errors import UserError
from glr_dist.methods.flips import flips_kinds, flips_losses
from glr_dist.methods.method import Net
from glr_dist.methods.turning import capped_density, systematic
from glr_dist.models.networks import MLP, ConvNet
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

ROWS = 5
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one hidden layer": (lambda: MLP(20, [12], 4, "heaviside"), (20,)),
    "two hidden layers": (lambda: MLP(20, [12, 9], 4, "heaviside"), (20,)),
    "convolutions": (lambda: ConvNet((1, 12, 12), (3, 4), 3, 2, 4, "heaviside"), (1, 12, 12)),
}
FLIPS = {"estimator.scheme": "flips"}
RUNS: dict[str, dict[str, Any]] = {
    "flips": FLIPS,
    "drawn": FLIPS | {"estimator.flips": 5, "estimator.base_draws": 2},
    "joint 0-1": {"estimator.scheme": "joint-flips", "loss": "zero-one", "estimator.base_draws": 2},
    "antithetic, two layers": FLIPS | {
        "model.hidden": [10, 8],
        "estimator.base_draws": 2,
        "estimator.base_antithetic": True,
    },
    "convolutions": FLIPS | CONV | {"estimator.flips": 6},
    "two convolutions": FLIPS | CONV | {"model.channels": [3, 4], "model.kernel": 2, "estimator.flips": [6, 0]},
}  # fmt: skip


class Residual(nn.Module):
    """A skip around the second layer also reads the first layer's bits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(20, 9), nn.Linear(9, 9), nn.Linear(9, 4)
        self.step = Heaviside()

    def forward(self, x: Tensor) -> Tensor:
        h = self.step(self.first(x))
        return self.last(h + self.step(self.second(h)))  # type: ignore[no-any-return]


def user_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(-1) - labels).abs().to(logits.dtype) + logits.abs().amax(-1)


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("scheme", ["flips", "joint-flips"])
@pytest.mark.parametrize("flips", [0, 5])
@pytest.mark.parametrize("loss", [cross_entropy, zero_one, user_loss])
def test_quick_ways_give_what_a_row_more_and_a_copy_more_give(name: str, scheme: str, flips: int, loss: Loss) -> None:
    torch.manual_seed(3)
    build, shape = NETWORKS[name]
    model, estimator = build(), EstimatorConfig(scheme=scheme, base_draws=2, flips=(flips,))
    sites = find_sites(model, shape)
    x, labels = torch.rand(ROWS, *shape), torch.arange(ROWS) % 4
    for kind in flips_kinds(sites, estimator):
        if not isinstance(kind, FlipKind):
            continue
        noised = range(len(sites)) if kind.noises_all else [kind.site]
        noise = {index: torch.randn(2, ROWS, *sites[index].shape) for index in noised}
        noise |= {PICKS: torch.randn(2, ROWS)} if kind.drawn else {}
        blind = [replace(site, reader=None, logits=False) for site in sites]
        ways = [(sites, True), (blind, True), (blind, False)]
        found = []
        for known, fold in ways:
            config = NoiseConfig(scale=0.7)
            net = Net.of(model, known, fold=fold, loss=loss, noise=config, estimator=estimator)
            with torch.no_grad():
                found.append(flips_losses(net, kind, noise, x, labels, "here"))
            assert found[-1].shape == kind.losses(2, ROWS)
        assert found[0].abs().max() > 0
        for other in found[1:]:
            torch.testing.assert_close(found[0], other, atol=2e-6, rtol=1e-5)


class Halved(nn.Linear):
    """Makes something else of its weights than a Linear does."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, 0.5 * self.weight, self.bias)


def test_a_reader_is_an_affine_layer_that_alone_sees_the_bits() -> None:
    torch.manual_seed(0)
    for build, shape in NETWORKS.values():
        sites = find_sites(build(), shape)
        assert [site.reader for site in sites] == [*range(1, len(sites)), None]
        assert [site.logits for site in sites] == [False] * (len(sites) - 1) + [True]
    assert [site.reader for site in find_sites(Residual(), (20,))] == [None, None, None]
    halved = nn.Sequential(nn.Linear(20, 9), Heaviside(), Halved(9, 4))
    assert find_sites(halved, (20,))[0].reader is None
    padded = nn.Sequential(nn.Conv2d(1, 2, 3), Heaviside(), nn.Conv2d(2, 3, 3, padding="same"), nn.Flatten())
    assert find_sites(padded, (1, 6, 6))[0].reader is None  # a padding that `columns` does not know


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 3, 3),
        nn.Conv2d(2, 3, 3, stride=2, padding=1),
        nn.Conv2d(2, 3, (2, 3), dilation=(2, 1), padding=(0, 2)),
    ],
)
def test_columns_are_what_unit_inputs_add(layer: nn.Conv2d) -> None:
    units = torch.eye(2 * 7 * 6).view(-1, 2, 7, 6)
    with torch.no_grad():
        moved = (layer(units) - layer(torch.zeros_like(units))).flatten(1)
    torch.testing.assert_close(columns(layer, (2, 7, 6)), moved)


def test_bits_are_drawn_as_often_as_their_weight_says() -> None:
    z = torch.tensor([0.0, 0.4, -1.0, 2.0, -3.5, 9.0]).expand(1, 40_000, -1)
    uniform = torch.rand((1, 40_000), generator=torch.Generator().manual_seed(1))
    weights = capped_density("gaussian", z, 3)
    picks = systematic(weights, uniform, 3)
    counts = torch.bincount(picks.flatten(), minlength=6) / 40_000
    want = 3 * weights[0, 0] / weights[0, 0].sum()
    np.testing.assert_allclose(counts.numpy(), want.numpy(), atol=4 * 0.5 / 40_000**0.5)
    assert want.max() <= 1.05  # hardly any is drawn twice


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_is_resumed_replayed_and_audited_bit_for_bit(name: str, tmp_path: Path) -> None:
    check_that_it_lasts(tmp_path, RUNS[name])


@pytest.mark.parametrize("name", ["drawn", "joint 0-1"])
def test_workers_and_reconstructors_give_the_same_bits(name: str, tmp_path: Path, ray_session: None) -> None:
    check_that_crews_agree(tmp_path, RUNS[name])


def test_units_are_cut_for_all_of_a_site_where_copies_cannot_be_rows() -> None:
    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.skipped = nn.Linear(64, 8), nn.Linear(8, 8)
            self.wide, self.last = nn.Linear(8, 4096), nn.Linear(4096, 10)
            self.step = Heaviside()

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.first(x.flatten(1)))
            return self.last(self.step(self.wide(h + torch.tanh(self.skipped(h)))))  # type: ignore[no-any-return]

    task = small_task(FLIPS | {"units.copies": 0, "noise.table_size": 2**20}, model=Skipping())
    assert not task.fold
    flips = [kind for kind, _ in task.plan.pieces if isinstance(kind, FlipKind)]
    assert max(kind.passes(1, 8) for kind in flips) * 4096 <= 2**21  # values of the largest tensor: 8 MB


def test_where_only_bits_are_turned_nobody_sees_a_loss(tmp_path: Path) -> None:
    train_small(tmp_path / "run", FLIPS | {"estimator.sites": ["1"], "estimator.copies": 32})
    assert [line["loss"] for line in read_metrics(Storage.at(tmp_path / "run"))] == [None] * STEPS


def test_differences_that_are_not_finite_are_told_by_the_evaluator_that_sees_them() -> None:
    model, estimator = MLP(20, [12], 4, "heaviside"), EstimatorConfig(scheme="flips")
    sites = find_sites(model, (20,))
    (kind, _) = flips_kinds(sites, estimator)
    assert isinstance(kind, FlipKind)
    net = Net.of(model, sites, fold=True, loss=cross_entropy, noise=NoiseConfig(), estimator=estimator)
    labels = torch.arange(ROWS) % 4
    with torch.no_grad():
        model.get_submodule(sites[1].module).bias.fill_(torch.inf)  # type: ignore[union-attr, operator]
        with pytest.raises(UserError, match="loss: here returned nan; losses must be finite"):
            flips_losses(net, kind, {0: torch.randn(1, ROWS, 12)}, torch.rand(ROWS, 20), labels, "here")


def test_it_learns_without_noise_at_the_read_out_being_turned(tmp_path: Path) -> None:
    keys = {"steps": 300, "batch": 64, "units.rows": 32, "model.hidden": [40], "noise.scale": 0.5, "optimizer.lr": 0.02}
    assert (train_small(tmp_path / "run", FLIPS | keys).test_accuracy or 0.0) > 0.85


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"model.activation": "relu"},
            r"scheme = 'flips': the network has no Heaviside unit .*'layerwise'",
        ),
        ({"estimator.flips": [3, 3]}, r"estimator.flips = \[3, 3\]: there are 1 layers of Heaviside units; give one"),
        ({"estimator.flips": 13}, r"estimator.flips = 13: layer '1' has 12 units; give at most as many"),
        (
            {"estimator.sites": ["1"]},
            r"estimator.copies = 8: changes nothing, since estimator.scheme = 'flips' turns bits",
        ),
    ],
)
def test_what_a_network_cannot_give_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_task(FLIPS | keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"estimator.base_draws": 0}, "estimator.base_draws = 0: must be at least 1"),
        (
            {"estimator.base_draws": 3, "estimator.base_antithetic": True},
            "base_draws = 3: antithetic pairs need an even",
        ),
        ({"estimator.flips": -1}, "estimator.flips = \\[-1\\]: must be at least 1, or 0"),
        ({"estimator.scheme": "flip"}, "did you mean 'flips'"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_config(FLIPS | keys)
