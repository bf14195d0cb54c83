"""Layers that are a function of each example alone are trained, whatever their class; others are refused with the reason.

Of a loss that is a quadratic of a site's output, noise there adds a constant to its mean: the exact gradient is autograd's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from glr_dist.config import parse_config
from glr_dist.core.activations import Heaviside
from glr_dist.core.losses import mean_squared_error
from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine.assembly import crew_here
from glr_dist.engine.checks import set_up
from glr_dist.errors import UserError

RNG = np.random.default_rng(0)
ROWS, STEPS, LIMIT = 32, 250, 4.5
VECTORS, SEQUENCES = RNG.normal(size=(64, 4)), RNG.normal(size=(64, 5, 4))
TOKENS, CLASSES, NUMBERS = RNG.integers(0, 20, (64, 5)), np.arange(64) % 3, RNG.normal(size=(64, 3))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], *, state: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        self.layer, self.state = kind(4, 6, batch_first=batch_first), state  # type: ignore[call-arg]
        self.step, self.out = Heaviside(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        output, state = self.layer(x)
        if self.state:
            return self.out(state[-1] if isinstance(state, Tensor) else state[0][-1])  # type: ignore[no-any-return]
        return self.out(output[:, -1])  # type: ignore[no-any-return]


class Attending(nn.Module):
    def __init__(self, *, batch_first: bool = True) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(20, 4), nn.Linear(4, 3)
        self.layer = nn.MultiheadAttention(4, 2, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        z = self.words(x)
        return self.out(self.layer(z, z, z)[0].mean(1))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(20, 4), nn.Linear(4, 3)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(self.words(x)).mean(1))  # type: ignore[no-any-return]


def normed(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), norm, nn.Dropout(0.4), nn.Linear(6, 3))


def fixed(norm: nn.BatchNorm1d) -> nn.BatchNorm1d:
    """With statistics from elsewhere."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(torch.linspace(-1, 1, 6))
    norm.running_var.copy_(torch.linspace(0.5, 2, 6))
    return norm


def task_of(model: nn.Module, x: np.ndarray, y: np.ndarray, **keys: Any) -> Any:
    small = {"engine.workers": 0, "batch": ROWS, "units.rows": ROWS, "steps": STEPS, "noise.table_size": 2**20}
    loss = {"loss": "mse"} if y.ndim == 2 else {}
    return set_up(parse_config("", small | loss | keys), model, ArrayDataset((x, y), validation=0.0, shards=1), None)


FINE: dict[str, tuple[Any, np.ndarray, str]] = {
    "GRU": (lambda: Recurrent(nn.GRU), SEQUENCES, "layer"),
    "LSTM": (lambda: Recurrent(nn.LSTM), SEQUENCES, "layer"),
    "attention": (Attending, TOKENS, "layer"),
    "fixed batch norm, dropout": (lambda: normed(fixed(nn.BatchNorm1d(6))), VECTORS, "1"),
}


@pytest.mark.parametrize("name", FINE)
def test_the_gradient_of_a_layer_is_the_exact_one(name: str) -> None:
    """Of the layer alone, and of all its parameters: everything behind it is affine, and the loss a square."""
    build, x, layer = FINE[name]
    torch.manual_seed(0)
    keys = {"estimator.sites": [layer], "noise.scale": 0.3, "estimator.copies": 16}
    trainer, task = task_of(build(), x, NUMBERS, **keys)
    crew, theta = crew_here(task, task.make_table()), trainer.theta()
    steps = [step for step in range(STEPS) if step % 2 == 0]  # with two batches an epoch: half of the steps' rows
    found, wanted = [], []
    for step in steps:
        inputs, targets = task.rows(task.plan.schedule.blocks(step)[0])
        found.append(torch.tensor(crew.gradient(theta, step).gradient))
        loss = mean_squared_error(task.model(inputs), targets).mean()
        parts = torch.autograd.grad(loss, list(task.trainable.values()))
        wanted.append(torch.cat([part.flatten() for part in parts]))
    differences = (torch.stack(found) - torch.stack(wanted)).double()
    error = differences.std(0) / math.sqrt(len(steps))
    assert len(error) > 10
    assert float((differences.mean(0).abs() / error.clamp(min=1e-9)).max()) < LIMIT
    assert float(torch.stack(wanted).mean(0).abs().max()) > 10 * float(error.median())


@pytest.mark.parametrize("keys", [{}, {"estimator.scheme": "joint"}, {"method": "es"}, {"method": "bp"}], ids=str)
@pytest.mark.parametrize("build", [Transformer, Attending])
def test_token_ids_are_learnt_from(build: Any, keys: dict[str, Any]) -> None:
    trainer, task = task_of(build(), TOKENS, CLASSES, **keys)
    before = trainer.theta().copy()
    trainer.advance(crew_here(task, task.make_table()))
    moved = np.flatnonzero(before != trainer.theta())
    assert len(moved) > 0.9 * len(before)  # all but the ids that the batch has not


REFUSED: dict[str, tuple[Any, np.ndarray, str]] = {
    "last state": (
        lambda: Recurrent(nn.GRU, state=True),
        SEQUENCES,
        r"layer 'layer' \(GRU\) hands on more than its output, .* read its output instead, such as output\[:, -1\]",
    ),
    "cell state": (lambda: Recurrent(nn.LSTM, state=True), SEQUENCES, r"layer 'layer' \(LSTM\) hands on more"),
    "batch second": (
        lambda: Recurrent(nn.GRU, batch_first=False),
        SEQUENCES,
        r"\(GRU\): one example's output depends on the others .* give it batch_first=True",
    ),
    "attention, batch second": (lambda: Attending(batch_first=False), TOKENS, "give it batch_first=True"),
    "live batch norm": (
        lambda: normed(nn.BatchNorm1d(6, track_running_stats=False)),
        VECTORS,
        r"layer '1' \(BatchNorm1d\): one example's output depends on the others in its batch; use GroupNorm",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_of_an_example_alone_is_refused_with_the_reason(name: str) -> None:
    build, x, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        task_of(build(), x, CLASSES)
