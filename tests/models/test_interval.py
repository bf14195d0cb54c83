"""Interval networks: their outputs are minus the worst leads, and at radius 0 those of the network itself."""

from __future__ import annotations

import pytest
import torch
from hard_nets import SHAPE
from torch import Tensor, nn

from glr_dist.attacks.exact.intervals import proof_layers, worst_leads
from glr_dist.core.activations import Heaviside
from glr_dist.core.passes import folds
from glr_dist.core.probing import find_sites
from glr_dist.core.readers import columns
from glr_dist.core.taps import Chain, taps_of
from glr_dist.errors import UserError
from glr_dist.models.interval import IntervalNetwork, questions
from glr_dist.models.networks import MLP, ConvNet, InputThreshold, Standardize, Thermometer

ROWS, CLASSES = 7, 4


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(5)
    return {
        "one layer": MLP(16, [12], CLASSES, "heaviside", [InputThreshold(0.5)]),
        "two layers": MLP(16, [12, 9], CLASSES, "heaviside", [Standardize(0.2, 0.4)]),
        "two thresholds": MLP(16, [12], CLASSES, "heaviside", [Thermometer([0.3, 0.6])]),
        "relu": MLP(16, [12], CLASSES, "relu"),
        "convolutions": ConvNet(SHAPE, (3,), 2, 1, CLASSES, "heaviside", [Thermometer([0.3, 0.6])]),
        "pooled": nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), Heaviside(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, CLASSES)
        ),
    }


NAMES = list(networks())


def some() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((ROWS, *SHAPE), generator=generator), torch.arange(ROWS) % CLASSES


@pytest.mark.parametrize("name", NAMES)
def test_at_radius_0_they_are_the_network_s_own_leads(name: str) -> None:
    model, (x, labels) = networks()[name], some()
    with torch.no_grad():
        found = IntervalNetwork(model, SHAPE)(questions(x, labels, torch.zeros(ROWS)))
        logits = model(x)
    torch.testing.assert_close(found, logits - logits.gather(1, labels[:, None]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("radius", [0.01, 0.1, 0.3])
def test_they_are_minus_the_worst_leads_of_a_proof(name: str, radius: float) -> None:
    """A proof's are computed another way, in float64, and are less by what float32 may do."""
    model, (x, labels) = networks()[name], some()
    with torch.no_grad():
        found = -IntervalNetwork(model, SHAPE)(questions(x, labels, torch.full((ROWS,), radius)))
    proof = worst_leads(proof_layers(model), x, labels, radius).float()
    assert found.gather(1, labels[:, None]).eq(0).all()
    other = torch.ones_like(found, dtype=torch.bool).scatter_(1, labels[:, None], value=False)
    torch.testing.assert_close(found[other], proof[other], atol=1e-4, rtol=1e-4)


def test_every_row_has_its_own_radius_and_balls_end_at_0_and_1() -> None:
    x, labels = torch.tensor([[0.1, 0.95], [0.5, 0.5]]), torch.tensor([3, 1])
    asked = questions(x, labels, torch.tensor([0.2, 0.0]))
    torch.testing.assert_close(asked, torch.tensor([[0.0, 0.75, 0.3, 1.0, 3.0], [0.5, 0.5, 0.5, 0.5, 1.0]]))


@pytest.mark.parametrize("name", NAMES)
def test_they_hold_the_network_s_own_parameters(name: str) -> None:
    model = networks()[name]
    interval = IntervalNetwork(model, SHAPE)
    assert [id(p) for p in interval.parameters()] == [id(p) for p in model.parameters()]


@pytest.mark.parametrize("name", ["one layer", "two layers", "two thresholds"])
def test_their_bits_are_read_by_layers_that_say_how(name: str) -> None:
    """Each column is what a turned bit adds: seen by turning it."""
    interval, (x, labels) = IntervalNetwork(networks()[name], SHAPE), some()
    asked = questions(x, labels, torch.full((ROWS,), 0.1))
    sites = find_sites(interval, asked.shape[1:], inputs=asked)
    assert [site.binary for site in sites] == [True] * (len(sites) - 1) + [False]
    assert [site.reader for site in sites] == [*range(1, len(sites)), None]
    assert [site.logits for site in sites] == [False] * (len(sites) - 1) + [True]
    assert folds(interval, sites, asked.shape[1:])
    assert isinstance(taps_of(interval, sites), Chain)
    for site in sites[:-1]:
        layer = interval.get_submodule(sites[site.reader or 0].module)
        more = (asked,) if getattr(layer, "takes_inputs", False) else ()
        with torch.no_grad():
            bits = torch.rand(ROWS, site.size).round()
            before, matrix = layer(bits, *more), columns(layer, site.shape)
            for bit in (0, site.size // 2, site.size - 1):
                turned = bits.clone()
                turned[:, bit] = 1.0 - turned[:, bit]
                direction = (turned - bits)[:, bit, None]
                moved = matrix[labels, bit] if matrix.dim() == 3 else matrix[bit]
                torch.testing.assert_close(layer(turned, *more) - before, direction * moved, atol=1e-5, rtol=1e-4)


def test_an_unknown_layer_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"loss = 'certified': knows nothing of layer '1' \(Tanh\)"):
        IntervalNetwork(nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(16, 2)), SHAPE)


def test_layers_held_in_another_order_than_called_are_refused() -> None:
    model = ConvNet(SHAPE, (3,), 2, 1, 2, "heaviside")
    model._modules = dict(reversed(model._modules.items()))
    with pytest.raises(UserError, match="holds its layers in another order than it calls them"):
        IntervalNetwork(model, SHAPE)


def test_a_module_that_stands_twice_in_a_row_is_called_twice() -> None:
    torch.manual_seed(0)
    step, layer = Heaviside(), nn.Linear(16, 16)
    model = nn.Sequential(nn.Flatten(), layer, step, layer, step, nn.Linear(16, 3))
    x, labels = some()
    labels = labels % 3
    with torch.no_grad():
        logits, found = model(x), IntervalNetwork(model, SHAPE)(questions(x, labels, torch.zeros(ROWS)))
    torch.testing.assert_close(found, logits - logits.gather(1, labels[:, None]), atol=1e-5, rtol=1e-5)
    leads = worst_leads(proof_layers(model), x, labels, 0.0)
    other = leads.isfinite()
    assert (leads.float()[other] <= -found[other] + 1e-4).all()
