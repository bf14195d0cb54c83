"""Models that don't go with the data, or that no unit could be run twice on, are refused; frozen layers stay as they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import ES, JOINT, own_model, train_small
from torch import Tensor, nn

from glr_dist.errors import UserError
from glr_dist.store.checkpoint import load_checkpoint


class Counter(nn.Module):
    """Counts its calls in a buffer, whatever mode it is in."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x


def counting_model() -> nn.Module:
    model = own_model()
    model.append(Counter())
    return model


def model_with(value: float) -> nn.Module:
    model = own_model()
    model[1].weight.data[2, 3] = value
    return model


def all_frozen_model() -> nn.Module:
    return own_model().requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: own_model(outputs=11), "^model: has 11 outputs, the data have 10 classes"),
        (lambda: own_model(outputs=9), "^model: has 9 outputs, the data have 10 classes"),
        (lambda: own_model().double(), r"^model: parameter '1.weight' is float64 on cpu; give a float32 model"),
        (lambda: own_model(inputs=63), r"^model: can't take the data's shape \[1, 8, 8\]: "),
        (counting_model, "^model: buffer '4.calls' changes in a forward pass"),
        (all_frozen_model, "^model: none of its parameters has requires_grad"),
        (lambda: model_with(math.nan), r"^model: parameter '1.weight' is not finite \(1 of 448 values"),
        (lambda: model_with(math.inf), "^model: parameter '1.weight' is not finite"),
    ],
    ids=["more-outputs", "fewer-outputs", "float64", "input", "moving-buffer", "all-frozen", "nan", "infinite"],
)
@pytest.mark.parametrize("method", ["glr", "straight-through"])
def test_models_that_cannot_be_trained_are_refused(
    make: Callable[[], nn.Module], message: str, method: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        train_small(tmp_path / "run", {"method": method}, model=make())
    assert not (tmp_path / "run").exists()


def test_a_buffer_that_moves_only_in_training_mode_is_no_obstacle(tmp_path: Path) -> None:
    """Spectral normalisation improves its vectors u and v in training mode; a run neither does so nor forgets them."""
    model = own_model()
    nn.utils.spectral_norm(model[1])
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train_small(tmp_path / "run", {"steps": 2}, model=model)
    after = load_checkpoint(tmp_path / "run").weights
    kept = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert kept == {"1.weight_u", "1.weight_v"}


def test_a_training_that_diverges_says_so_and_leaves_no_checkpoint_that_is_not_finite(tmp_path: Path) -> None:
    """A Heaviside unit makes a bit of NaN, and losses stay finite."""
    keys = {"optimizer.name": "sgd", "optimizer.lr": 3e38, "optimizer.weight_decay": 0.5, "schedule.name": "constant"}
    model = own_model()
    model[3].requires_grad_(False)
    with pytest.raises(UserError, match=r"^step \d+: the training has diverged \(lower optimizer.lr\): parameter '"):
        train_small(tmp_path / "run", keys | {"checkpoint_every": 1}, model=model)
    assert all(bool(p.isfinite().all()) for p in load_checkpoint(tmp_path / "run").weights.values())


@pytest.mark.parametrize(
    "keys",
    [{}, JOINT, ES, {"method": "straight-through"}, {"method": "bp", "model.activation": "tanh"}],
    ids=["layerwise", "joint", "es", "straight-through", "bp"],
)
def test_frozen_layers_stay_and_the_others_move(keys: dict[str, Any], tmp_path: Path) -> None:
    model = (
        own_model() if "model.activation" not in keys else nn.Sequential(*own_model()[:2], nn.Tanh(), nn.Linear(7, 10))
    )
    model[1].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train_small(tmp_path / "run", keys | {"steps": 3, "optimizer.weight_decay": 0.5}, model=model)
    after = load_checkpoint(tmp_path / "run").weights
    assert {name for name, tensor in after.items() if torch.equal(tensor, before[name])} == {"1.weight", "1.bias"}
    assert all(p.grad is None for p in model[1].parameters())
