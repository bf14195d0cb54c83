"""The controls against autograd: what they compute, the losses that they report, what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_runs import STEPS, small_task, train_small
from textbook import chain
from torch import Tensor, nn

from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.losses import Loss, cross_entropy
from glr_dist.core.probing import find_sites
from glr_dist.core.units import ALL_SITES, UnitKind
from glr_dist.errors import UserError
from glr_dist.methods.method import Gradient, Net, Observed, named_method
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

ROWS, PAIRS, SCALE = 3, 4, 0.7
CONTROLS = ("bp", "bp-noise", "straight-through")


def sigmoid_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2))


def gradient(
    method: str, model: nn.Module, x: Tensor, labels: Tensor, units: Sequence[Observed] = (), loss: Loss = cross_entropy
) -> Gradient:
    estimator = EstimatorConfig(copies=sum(unit.losses.shape[0] * unit.losses.shape[1] for unit in units) or 4)
    noise = NoiseConfig(scale=SCALE)
    net = Net.of(model, find_sites(model, (3,)), loss=loss, noise=noise, estimator=estimator)
    return named_method(method).gradient(net, x, labels, units, "here")


def unit(signs: int, eps: dict[int, Tensor]) -> Observed:
    draws = len(eps[0])
    kind = UnitKind(site=ALL_SITES, draws=draws, signs=signs, values=6, widest=4)
    return Observed(kind=kind, losses=torch.zeros(signs, draws, ROWS), noise=lambda: eps)


def assert_same(found: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> None:
    """To 1e-6 of each parameter's largest component."""
    for a, p in zip(found, parameters, strict=True):
        assert p.grad is not None
        assert float((a - p.grad).abs().max()) <= 1e-6 * max(1.0, float(p.grad.abs().max()))


def test_backprop_is_autograd_and_zero_before_a_step() -> None:
    model, x, labels = chain().model, torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    found = gradient("bp", model, x, labels)
    assert all(not part.any() for part in found.parts[:4])
    loss = F.cross_entropy(model(x), labels, reduction="sum")
    loss.backward()
    assert_same(found.parts[4:], list(model.parameters())[4:])
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)


def test_straight_through_reaches_every_layer() -> None:
    torch.manual_seed(0)
    model, x, labels = chain().model, torch.randn(50, 3), torch.ones(50, dtype=torch.long)
    found = gradient("straight-through", model, x, labels)
    assert all(part.any() for part in found.parts)
    assert found.loss == pytest.approx(F.cross_entropy(model(x), labels, reduction="sum").item(), rel=1e-6)


@pytest.mark.parametrize("signs", [(1, -1), (1,)], ids=["pairs", "single"])
def test_noisy_backprop_is_the_mean_of_autograd_over_copies(signs: tuple[int, ...]) -> None:
    model, x, labels = sigmoid_net(), torch.randn(ROWS, 3), torch.tensor([0, 1, 1])
    eps = {0: torch.randn(PAIRS, ROWS, 4), 1: torch.randn(PAIRS, ROWS, 2)}
    pieces = [{i: e[part] for i, e in eps.items()} for part in (slice(0, 1), slice(1, PAIRS))]
    found = gradient("bp-noise", model, x, labels, [unit(len(signs), piece) for piece in pieces])
    total = torch.zeros(())
    for s in signs:
        for p in range(PAIRS):
            h = torch.sigmoid(model[0](x) + s * SCALE * eps[0][p])
            logits = model[2](h) + s * SCALE * eps[1][p]
            total = total + F.cross_entropy(logits, labels, reduction="sum") / (len(signs) * PAIRS)
    total.backward()
    assert_same(found.parts, list(model.parameters()))
    assert found.loss == pytest.approx(total.item(), rel=1e-6)


@pytest.mark.parametrize("method", CONTROLS)
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda logits, labels: cross_entropy(logits, labels) * float("nan"),
            "^loss: here returned nan; losses must be",
        ),
        (F.cross_entropy, r"^loss: here returned shape \(\) for 3 examples"),
    ],
    ids=["nan", "mean"],
)
def test_autograd_of_losses_that_cannot_be_names_where(method: str, loss: Loss, message: str) -> None:
    eps = {0: torch.randn(1, ROWS, 4), 1: torch.randn(1, ROWS, 2)}
    with pytest.raises(UserError, match=message):
        gradient(method, sigmoid_net(), torch.randn(ROWS, 3), torch.tensor([0, 1, 1]), [unit(2, eps)], loss)


SMOOTH: dict[str, Any] = {"model.activation": "tanh"}


@pytest.mark.parametrize("method", CONTROLS)
def test_a_run_records_the_loss_that_each_step_learnt_from(method: str, tmp_path: Path) -> None:
    train_small(tmp_path / "run", SMOOTH | {"method": method, "noise.scale": 1e-3})
    task = small_task(SMOOTH)
    rows = [task.rows(block) for block in task.plan.schedule.blocks(0)]
    x, labels = (torch.cat(part) for part in zip(*rows, strict=True))
    lines = read_metrics(Storage.at(tmp_path / "run"))
    assert lines[0]["loss"] == pytest.approx(F.cross_entropy(task.model(x), labels).item(), rel=1e-3)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert len(lines) == STEPS


RELU: dict[str, Any] = {"method": "bp", "model.activation": "relu"}


@pytest.mark.parametrize(
    ("keys", "loss", "message"),
    [
        ({"method": "bp"}, None, "method = 'bp': Heaviside units have no gradient; use --set model.activation=relu"),
        ({"method": "bp-noise"}, None, "method = 'bp-noise': Heaviside units have no gradient"),
        (RELU | {"loss": "zero-one"}, None, "method = 'bp': the 0-1 loss has no gradient"),
        ({"method": "straight-through", "loss": "zero-one"}, None, "the 0-1 loss has no gradient"),
        (RELU, F.cross_entropy, r"loss: returned \(\) for 2 examples; a loss must return one value per example"),
        (RELU, lambda logits, labels: 1.0, "loss: returned float for 2 examples"),
        (RELU, lambda logits, labels: (logits.argmax(1) != labels).float(), "the loss has no gradient; use --method"),
    ],
)
def test_controls_refuse_what_has_no_gradient(keys: dict[str, Any], loss: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_task(keys, loss=loss)
