"""Evolution strategies: the mean over seeds is the exact gradient where that is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.losses import Loss, zero_one
from glr_dist.core.noise import GeneratorSource, NoiseSource, TableSource
from glr_dist.core.probing import find_sites
from glr_dist.core.units import ALL_SITES
from glr_dist.methods import method as methods
from glr_dist.methods.method import Net, Observed, named_method

SEEDS, REPEATS, COPIES, SCALE, LIMIT = 100, 60, 6, 0.4, 4.0
X = torch.tensor([[0.7, -0.4, 1.0], [-0.2, 0.5, 0.3]])
LABELS = torch.tensor([1, 0])
SIZE = 8  # parameters of a 3-2 linear layer


def quadratic(logits: Tensor, labels: Tensor) -> Tensor:
    """(l_0 - 1)^2 + l_0 l_1: its mean under noise on the weights differs from its clean value by a constant alone."""
    return (logits[:, 0] - 1) ** 2 + logits[:, 0] * logits[:, 1]


def clean(weight: Tensor, bias: Tensor, family: str) -> Tensor:
    return quadratic(X.double() @ weight.t() + bias, LABELS).sum()


def chance_of_error(weight: Tensor, bias: Tensor, family: str) -> Tensor:
    """Gaussian weights make the margin Gaussian, of variance 2 (|x|^2 + 1) sigma^2."""
    logits = X.double() @ weight.t() + bias
    margin = (logits[:, 1] - logits[:, 0]) * torch.where(LABELS == 1, -1.0, 1.0)
    spread = SCALE * (2 * ((X.double() ** 2).sum(1) + 1)).sqrt()
    return (0.5 * torch.erfc(-margin / spread / math.sqrt(2.0))).sum()


def source_of(kind: str, family: str, seed: int) -> NoiseSource:
    if kind == "generator":
        return GeneratorSource(family)
    return TableSource.make(family, 4 * REPEATS * COPIES * SIZE, np.random.SeedSequence([seed, 7]))


def estimates(family: str, kind: str, antithetic: bool, baseline: str, loss: Loss) -> Tensor:
    """[SEEDS, 8]: per seed the mean of REPEATS estimates of COPIES members each, in two units."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    config = EstimatorConfig(copies=COPIES, antithetic=antithetic, baseline=baseline)
    signs = (1.0, -1.0) if antithetic else (1.0,)
    draws = COPIES // len(signs)
    noise, sites = NoiseConfig(family=family, scale=SCALE), find_sites(model, (3,))
    net = Net.of(model, sites, loss=loss, noise=noise, estimator=config)
    (members,) = named_method("es").kinds(sites, SIZE, config)
    rows = []
    for seed in range(SEEDS):
        values = source_of(kind, family, seed).values(np.random.SeedSequence(seed), REPEATS * draws * SIZE)
        eps = values.view(REPEATS * draws, SIZE)
        with torch.no_grad():
            losses = (
                named_method("es")
                .losses(net, members, {ALL_SITES: eps}, X, LABELS, "here")
                .unflatten(0, (len(signs), -1))
            )
        total = torch.zeros(SIZE)
        for one in range(0, REPEATS * draws, draws):
            units = [
                Observed(kind=members, losses=losses[:, part], noise=partial(dict, [(ALL_SITES, eps[part])]))
                for part in (slice(one, one + 1), slice(one + 1, one + draws))
            ]
            parts = named_method("es").gradient(net, X, LABELS, units, "here").parts
            total += torch.cat([part.flatten() for part in parts])
        rows.append(total / REPEATS)
    return torch.stack(rows).double()


def exact_gradient(mean: Callable[[Tensor, Tensor, str], Tensor], family: str) -> Tensor:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    parameters = [p.detach().double().requires_grad_() for p in model.parameters()]
    parts = torch.autograd.grad(mean(parameters[0], parameters[1], family), parameters)
    return torch.cat([part.flatten() for part in parts])


def standard_errors_off(found: Tensor, exact: Tensor) -> float:
    return float(((found.mean(0) - exact).abs() / (found.std(0) / math.sqrt(SEEDS))).max())


@pytest.mark.parametrize("kind", ["table", "generator"])
@pytest.mark.parametrize("antithetic", [True, False], ids=["pairs", "single"])
@pytest.mark.parametrize("baseline", ["leave-out", "none"])
@pytest.mark.parametrize(
    ("family", "loss", "mean"),
    [("gaussian", quadratic, clean), ("laplace", quadratic, clean), ("gaussian", zero_one, chance_of_error)],
    ids=["gaussian-quadratic", "laplace-quadratic", "gaussian-zero-one"],
)
def test_mean_is_the_exact_gradient(
    family: str, loss: Loss, mean: Callable[[Tensor, Tensor, str], Tensor], baseline: str, antithetic: bool, kind: str
) -> None:
    found = estimates(family, kind, antithetic, baseline, loss)
    assert standard_errors_off(found, exact_gradient(mean, family)) < LIMIT


def test_a_wrong_baseline_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave_one_out(losses: Tensor, baseline: str) -> Tensor:
        return losses - (losses.sum((0, 1)) - losses) / (losses.shape[0] * losses.shape[1] - 1)

    monkeypatch.setattr(methods, "advantages", leave_one_out)
    found = estimates("gaussian", "table", True, "leave-out", quadratic)
    assert standard_errors_off(found, exact_gradient(clean, "gaussian")) > LIMIT
