"""Training on the proof is unbiased: estimates on an interval network average to the enumerated gradient of its loss.

The reference is float64, enumerates all patterns of the bounds' bits and shares no code with the package: bounds are
``W c + b -+ |W| r``, leads are sums of minima's arms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import exact
import pytest
import torch
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside
from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.losses import LOSSES
from glr_dist.core.passes import PICKS
from glr_dist.core.probing import find_sites
from glr_dist.core.units import FlipKind
from glr_dist.methods.method import Net, Observed, named_method
from glr_dist.models import interval
from glr_dist.models.interval import IntervalNetwork, questions

SCALE, RADIUS, LABELS = 0.7, 0.15, (0, 1)
X = (0.3, 0.8, 0.5)
ROUNDS, ROWS = 60, 40  # estimates, and rows of each label in one


@dataclass(frozen=True)
class Setting:
    hidden: tuple[int, ...]
    scheme: str
    loss: str
    flips: int = 0
    fold: bool = True


def network(hidden: tuple[int, ...]) -> nn.Sequential:
    torch.manual_seed(11)
    widths = (len(X), *hidden)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), Heaviside()]
    model = nn.Sequential(*layers, nn.Linear(widths[-1], 2))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    return model


def want(model: nn.Sequential, hidden: tuple[int, ...], loss: str, scheme: str) -> Tensor:
    """The enumerated gradient of the mean loss over both labels; each site's parameters by noise there, or everywhere."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    original = [p.detach().double() for layer in layers for p in layer.parameters()]
    x = torch.tensor(X, dtype=torch.float64)
    sites = range(len(layers))
    total = [torch.zeros_like(p) for p in original]
    for label in LABELS:
        for noised in [set(sites)] if scheme.startswith("joint") else [{site} for site in sites]:
            calls = [p.clone().requires_grad_() for p in original]

            def terminal(
                act: exact.Act, calls: list[Tensor] = calls, noised: set[int] = noised, y: int = label
            ) -> Tensor:
                low, high = (x - RADIUS).clamp(0, 1), (x + RADIUS).clamp(0, 1)
                for site in range(len(hidden)):
                    w, b = calls[2 * site], calls[2 * site + 1]
                    centre, reach = w @ ((low + high) / 2) + b, w.abs() @ ((high - low) / 2)
                    bits = act(site, torch.cat([centre - reach, centre + reach]))
                    low, high = bits.chunk(2)
                d = calls[-2][y] - calls[-2][1 - y]
                lead = d.clamp(min=0) @ low + d.clamp(max=0) @ high + calls[-1][y] - calls[-1][1 - y]
                outputs = torch.stack([-lead, torch.zeros_like(lead)] if y else [torch.zeros_like(lead), -lead])
                return exact.mean_loss(loss, outputs, y, "gaussian", SCALE if len(hidden) in noised else None)

            value = exact.over_bits(terminal, [2 * width for width in hidden], noised, "gaussian", SCALE)
            owned = [calls[2 * site + part] for site in sorted(noised) for part in (0, 1)]
            parts = torch.autograd.grad(value, owned, materialize_grads=True)
            for position, part in zip([2 * s + k for s in sorted(noised) for k in (0, 1)], parts, strict=True):
                total[position] += part
    return torch.cat([p.flatten() for p in total]) / len(LABELS)


def estimates(setting: Setting, model: nn.Sequential) -> Tensor:
    """ROUNDS estimates of the gradient: [ROUNDS, D]."""
    estimator = EstimatorConfig(scheme=setting.scheme, copies=6, base_draws=2, flips=(setting.flips,)) if (
        "flips" in setting.scheme
    ) else EstimatorConfig(scheme=setting.scheme, copies=16)  # fmt: skip
    labels = torch.tensor(LABELS).repeat_interleave(ROWS)[torch.randperm(2 * ROWS)]
    x = questions(torch.tensor(X).repeat(len(labels), 1), labels, torch.full((len(labels),), RADIUS))
    seen, method = IntervalNetwork(model, (len(X),)), named_method("glr")
    sites = find_sites(seen, x.shape[1:], inputs=x)
    noise = NoiseConfig(scale=SCALE)
    net = Net.of(seen, sites, fold=setting.fold, loss=LOSSES[setting.loss], noise=noise, estimator=estimator)
    found = []
    for _ in range(ROUNDS):
        units = []
        for whole in method.kinds(sites, 0, estimator):
            for kind, draws in whole.pieces(400):
                noised = range(len(sites)) if kind.noises_all else [kind.site]
                eps = {index: torch.randn(draws, len(labels), *sites[index].shape) for index in noised}
                if isinstance(kind, FlipKind) and kind.drawn:
                    eps[PICKS] = torch.randn(draws, len(labels))
                with torch.no_grad():
                    losses = method.losses(net, kind, eps, x, labels, "here")
                units.append(
                    Observed(kind=kind, losses=losses.unflatten(0, (kind.signs, -1)), noise=lambda eps=eps: eps)
                )  # type: ignore[misc]
        parts = method.gradient(net, x, labels, units, "here").parts
        found.append(torch.cat([part.flatten() for part in parts]) / len(labels))
    return torch.stack(found).double()


def off(setting: Setting) -> float:
    """By how many standard errors the mean estimate is off, at most."""
    torch.manual_seed(2)
    model = network(setting.hidden)
    named = {"certified": "cross-entropy", "certified-zero-one": "zero-one"}[setting.loss]
    reference = want(model, setting.hidden, named, setting.scheme)
    found = estimates(setting, model)
    error = found.std(0) / ROUNDS**0.5 + 1e-6
    return float(((found.mean(0) - reference).abs() / error).max())


SETTINGS = [
    Setting((3,), "flips", "certified"),
    Setting((3,), "flips", "certified-zero-one"),
    Setting((3,), "flips", "certified", flips=2),
    Setting((3,), "flips", "certified", fold=False),
    Setting((3,), "joint-flips", "certified-zero-one"),
    Setting((3,), "layerwise", "certified"),
    Setting((3,), "joint", "certified-zero-one"),
    Setting((2, 2), "flips", "certified"),
    Setting((2, 2), "flips", "certified-zero-one", flips=2),
]
LIMIT = 4.0


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_mean_of_the_estimates_is_the_enumerated_gradient_of_the_worst_case(setting: Setting) -> None:
    assert off(setting) < LIMIT


def test_a_lead_whose_arms_are_taken_for_each_other_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(self: interval.WorstLeads) -> Tensor:
        low, high = columns(self).chunk(2, dim=1)
        return torch.cat([high, low], dim=1)

    columns: Callable[[interval.WorstLeads], Tensor] = interval.WorstLeads.columns
    monkeypatch.setattr(interval.WorstLeads, "columns", swapped)
    assert off(SETTINGS[0]) > LIMIT
