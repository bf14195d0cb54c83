"""Losses of a whole batch: every scheme that takes them estimates the exact gradient, and no other takes them.

Exact: with Heaviside units and noisy outputs, each row says class 1 with a probability that sums over its bits; the rows are
independent, so the expected loss is a sum over what all of them say, which autograd differentiates.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glr_dist.config import parse_config
from glr_dist.core.activations import Heaviside
from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.passes import copy_losses
from glr_dist.core.prediction import clean_accuracy
from glr_dist.core.probing import find_sites
from glr_dist.core.units import ALL_SITES
from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine.checks import set_up
from glr_dist.engine.session import train
from glr_dist.errors import UserError
from glr_dist.methods.method import Net, Observed, named_method

SCALE, COPIES, ESTIMATES, LIMIT = 0.8, 64, 400, 4.5
ROWS = 3
LABELS = torch.tensor([1, 0, 1])


def one_less_f1(outputs: Tensor, labels: Tensor) -> Tensor:
    said = outputs.argmax(-1)
    hits = ((said == 1) & (labels == 1)).sum()
    return 1 - 2 * hits / ((said == 1).sum() + (labels == 1).sum()).clamp(min=1)


one_less_f1.per = "batch"  # type: ignore[attr-defined]


def network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(2, 2), Heaviside(), nn.Linear(2, 2)).eval()


def exact(model: nn.Sequential, x: Tensor, scheme: str) -> list[Tensor]:
    """The gradient of the expected loss; of ``layerwise`` each layer's is that with noise at this layer alone."""
    first, last = model[0], model[2]
    parameters = [p.detach().double().requires_grad_() for p in model.parameters()]

    def expected(noised: tuple[bool, bool]) -> Tensor:
        w, b, v, c = parameters
        z = x.double() @ w.T + b
        up = phi(z / SCALE) if noised[0] else (z >= 0).double()
        said_one = torch.zeros(ROWS, dtype=torch.float64)
        for bits in itertools.product((0.0, 1.0), repeat=2):
            h = torch.tensor(bits, dtype=torch.float64)
            outputs = h @ v.T + c
            lead = outputs[1] - outputs[0]
            one = phi(lead / (SCALE * math.sqrt(2))) if noised[1] else (lead > 0).double()
            said_one = said_one + torch.where(h > 0, up, 1 - up).prod(-1) * one
        total = torch.zeros((), dtype=torch.float64)
        for said in itertools.product((0, 1), repeat=ROWS):
            classes = torch.tensor(said)
            chance = torch.where(classes > 0, said_one, 1 - said_one).prod()
            total = total + chance * one_less_f1(nn.functional.one_hot(classes, 2).float(), LABELS)
        return total

    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    if scheme == "joint":
        return list(torch.autograd.grad(expected((True, True)), parameters))
    return [
        *torch.autograd.grad(expected((True, False)), parameters[:2]),
        *torch.autograd.grad(expected((False, True)), parameters[2:]),
    ]


def phi(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def estimates(model: nn.Module, x: Tensor, labels: Tensor, loss: Any, method: str, scheme: str) -> list[Tensor]:
    """Independent estimates of each parameter's gradient, [ESTIMATES, ...]."""
    estimator = EstimatorConfig(scheme=scheme, copies=COPIES)
    sites = find_sites(model, tuple(x.shape[1:]))
    net = Net.of(model, sites, loss=loss, noise=NoiseConfig(scale=SCALE), estimator=estimator)
    way, generator = named_method(method), torch.Generator().manual_seed(3)
    kinds = way.kinds(sites, sum(p.numel() for p in net.parameters), estimator)
    found = []
    for _ in range(ESTIMATES):
        units = []
        for kind in kinds:
            kind = type(kind)(**{**vars(kind), "batch": True})
            noised = range(len(sites)) if kind.site == ALL_SITES else [kind.site]
            shapes = {i: (kind.draws, len(x), *sites[i].shape) for i in noised}
            if kind.shared:
                shapes = {ALL_SITES: (kind.draws, kind.values)}
            noise = {i: torch.randn(shape, generator=generator) for i, shape in shapes.items()}
            losses = way.losses(net, kind, noise, x, labels, "here")
            assert losses.shape == kind.losses(kind.draws, len(x)) == (COPIES, 1)
            seen = losses.view(kind.signs, -1, 1).expand(-1, -1, len(x))
            units.append(Observed(kind=kind, losses=seen, noise=lambda noise=noise: noise))  # type: ignore[misc]
        parts = way.gradient(net, x, labels, units, "here").parts
        found.append([part / len(x) for part in parts])  # as the crew does: the mean over the batch
    return [torch.stack(parts) for parts in zip(*found, strict=True)]


def off(found: Tensor, exact_value: Tensor) -> float:
    """The largest distance of a component's mean from the exact value, in its standard errors."""
    found, exact_value = found.detach(), exact_value.detach()
    error = found.double().std(0) / math.sqrt(len(found))
    return float(((found.double().mean(0) - exact_value).abs() / error.clamp(min=1e-12)).max())


@pytest.mark.parametrize("scheme", ["joint", "layerwise"])
def test_noise_on_the_neurons_estimates_the_exact_gradient(scheme: str) -> None:
    model, x = network(), torch.tensor([[0.3, -0.5], [-0.7, 0.2], [0.6, 0.9]])
    found = estimates(model, x, LABELS, one_less_f1, "glr", scheme)
    wanted = exact(model, x, scheme)
    assert max(float(value.abs().max()) for value in wanted) > 0.01
    assert max(off(each, value) for each, value in zip(found, wanted, strict=True)) < LIMIT


def test_noise_on_the_weights_estimates_the_exact_gradient() -> None:
    """Of a loss that is a quadratic of the parameters, the mean output squared: noise adds a constant to its mean."""

    def squared_mean(outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.mean().square()

    squared_mean.per = "batch"  # type: ignore[attr-defined]
    model = nn.Linear(1, 1)
    x = torch.tensor([[0.5], [1.5], [-0.2]])
    found = estimates(model, x, LABELS, squared_mean, "es", "layerwise")
    mean = float(x.mean())
    value = 2 * (float(model.weight.detach()) * mean + float(model.bias.detach()))
    wanted = [torch.tensor([[value * mean]]), torch.tensor([value])]
    assert max(off(each, exact_value) for each, exact_value in zip(found, wanted, strict=True)) < LIMIT


def test_back_propagation_takes_its_derivative() -> None:
    def squared_mean(outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.mean().square()

    squared_mean.per = "batch"  # type: ignore[attr-defined]
    model, x = nn.Linear(2, 2), torch.rand(5, 2)
    sites = find_sites(model, (2,))
    net = Net.of(model, sites, loss=squared_mean, noise=NoiseConfig(), estimator=EstimatorConfig())
    found = named_method("bp").gradient(net, x, torch.zeros(5, dtype=torch.int64), [], "here")
    wanted = torch.autograd.grad(squared_mean(model(x), x), list(model.parameters()))
    assert all(torch.allclose(part / 5, value) for part, value in zip(found.parts, wanted, strict=True))
    assert found.loss == pytest.approx(5 * float(squared_mean(model(x), x).detach()))


def small() -> tuple[ArrayDataset, dict[str, Any]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)).astype(np.float32)
    keys = {
        "engine.workers": 0,
        "steps": 3,
        "batch": 64,
        "units.rows": 16,
        "model.hidden": [4],
        "noise.table_size": 2**16,
    }
    return ArrayDataset((x, (x[:, 0] > 1).astype(int)), (x, (x[:, 0] > 1).astype(int)), shards=2), keys


@pytest.mark.parametrize(
    "keys", [{"estimator.scheme": "joint"}, {}, {"method": "es"}], ids=["joint", "layerwise", "es"]
)
def test_a_unit_has_the_whole_batch_and_sends_one_loss_for_a_copy(keys: dict[str, Any]) -> None:
    data, small_keys = small()
    _, task = set_up(parse_config("", small_keys | keys), None, data, one_less_f1)
    assert task.plan.schedule.rows == 64
    sites = 2 if not keys else 1
    assert task.plan.losses_per_step == 32 * sites
    assert task.plan.noisy_forwards_per_step == 32 * 64 * sites


def test_flips_turn_bits_example_by_example_and_are_refused() -> None:
    data, keys = small()
    with pytest.raises(
        UserError, match=r"the loss is that of a whole batch; use estimator.scheme = 'joint', or --method es"
    ):
        set_up(parse_config("", keys | {"estimator.scheme": "flips"}), None, data, one_less_f1)


def test_it_is_measured_on_a_whole_split_and_not_batch_by_batch(tmp_path: Any) -> None:
    data, keys = small()
    model = network_for(data)
    result = train(model, data, parse_config("", keys | {"method": "es"}), loss=one_less_f1, run_dir=tmp_path / "run")
    x, y = next(data.batches("test", 400))
    whole = float(one_less_f1(model(x), y))
    assert clean_accuracy(model, one_less_f1, data.batches("test", 37)).loss == pytest.approx(whole)
    assert result.steps == 3


def network_for(data: ArrayDataset) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), Heaviside(), nn.Linear(4, len(data.classes)))


@pytest.mark.parametrize(("per", "returned", "message"), [("batch", 3, "returned shape"), ("epoch", 1, "unknown")])
def test_what_a_loss_may_not_return(per: str, returned: int, message: str) -> None:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros(returned)

    loss.per = per  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=message):
        copy_losses(loss, torch.zeros(2, 3, 2), LABELS)
