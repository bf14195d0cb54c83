"""What the Python door is handed: it trains, or is refused in one line before anything is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import digits, own_model, resume_small, small_config, train_small
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from glr_dist.core.losses import cross_entropy
from glr_dist.data.arrays import from_torch
from glr_dist.engine import session
from glr_dist.errors import UserError

PAIRS = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 10)


class Extra(nn.Module):
    """A network with state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.body = own_model()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)  # type: ignore[no-any-return]

    def get_extra_state(self) -> Any:
        return {"seen": 3}

    def set_extra_state(self, state: Any) -> None:
        assert state == {"seen": 3}


class Raises(Extra):
    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) / len({}[0])  # type: ignore[no-any-return]


def bad_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels) / 0 if len(labels) < 0 else {}["weights"]


@pytest.mark.parametrize(
    ("handed", "message"),
    [
        ({"model": Extra}, r"^model: is the class Extra; give an instance of torch.nn.Module, such as Extra\(\)$"),
        ({"model": own_model().state_dict()}, "^model: is of type OrderedDict; give an instance"),
        ({"model": lambda x: x}, "^model: is of type function"),
        ({"data": DataLoader(PAIRS, 4)}, r"^data: is of type DataLoader; give .*from_torch\(data.dataset\)"),
        ({"data": PAIRS}, r"^data: is of type TensorDataset; give .*from_torch\(data\)"),
        ({"data": (np.zeros((4, 64)), np.zeros(4))}, r"^data: is of type tuple; give glr_dist.ArrayDataset"),
        ({"loss": "zero-one"}, "^loss: is of type str; give a function of logits and labels"),
        ({"loss": bad_loss}, r"^loss: raised KeyError: 'weights' \(.*test_trials.py:\d+, in bad_loss\)$"),
        ({"loss": nn.CrossEntropyLoss()}, r"^loss: .* returned shape \(\) for 8 examples; a loss must return one"),
        (
            {"model": Extra()},
            "^model: its state holds '_extra_state' of type dict, and a checkpoint holds tensors alone",
        ),
        (
            {"model": Raises()},
            r"^model: can't take the data's shape .*KeyError: 0 \(.*test_trials.py:\d+, in forward\)$",
        ),
        ({"config": {"steps": 3}}, r"^config: is of type dict; give a preset's name"),
        ({"config": 3}, "^config: is of type int"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be_trained_with_is_refused_in_a_line(handed: dict[str, Any], message: str, tmp_path: Path) -> None:
    given = {"config": small_config(), "data": digits()} | handed
    with pytest.raises(UserError, match=message) as caught:
        session.train(**given, run_dir=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_items_of_torch_are_taken_as_arrays(tmp_path: Path) -> None:
    data = from_torch(PAIRS, PAIRS, shards=2)
    assert (data.count("test"), data.shape, len(data.classes)) == (40, (1, 8, 8), 10)
    x, labels = next(data.batches("test", 40))
    order = torch.from_numpy(np.lexsort(x.flatten(1).T.numpy()))
    expected = torch.from_numpy(np.lexsort(PAIRS.tensors[0].flatten(1).T.numpy()))
    assert torch.equal(x[order], PAIRS.tensors[0][expected])
    assert torch.equal(labels[order], PAIRS.tensors[1][expected])
    with pytest.raises(UserError, match=r"^train: its items are no pairs"):
        from_torch([torch.zeros(3)])


@pytest.mark.parametrize("switched", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_gradients_are_on_where_they_are_needed(switched: Callable[[], Any], tmp_path: Path) -> None:
    usual = train_small(tmp_path / "usual", {"steps": 3}, model=own_model())
    model = own_model()
    with switched():
        assert train_small(tmp_path / "run", {"steps": 3}, model=model).params_sha256 == usual.params_sha256
        assert not torch.is_grad_enabled()


def test_a_model_that_cannot_have_gradients_is_refused(tmp_path: Path) -> None:
    with torch.inference_mode():
        model = own_model()
    with pytest.raises(UserError, match=r"parameter '1.weight' was made under torch.inference_mode"):
        train_small(tmp_path / "other", model=model)


def test_another_default_type_changes_nothing(tmp_path: Path) -> None:
    usual = train_small(tmp_path / "usual", {"steps": 3})
    torch.set_default_dtype(torch.float64)
    try:
        assert train_small(tmp_path / "run", {"steps": 3}).params_sha256 == usual.params_sha256
        assert torch.get_default_dtype() == torch.float64
        with pytest.raises(UserError, match=r"parameter '1.weight' is float64 on cpu; give a float32 model"):
            train_small(tmp_path / "other", {"steps": 3}, model=own_model())
    finally:
        torch.set_default_dtype(torch.float32)


def test_numbers_of_numpy_train_and_go_on(tmp_path: Path) -> None:
    config = small_config({"steps": 4})
    rate = dataclasses.replace(
        config.optimizer, lr=np.logspace(-3, -2, 3)[1], options={"betas": (np.float64(0.9), 0.99)}
    )
    given = dataclasses.replace(config, optimizer=rate, steps=np.int64(4), data=dataclasses.replace(config.data))
    whole = session.train(config=given, data=digits(), run_dir=tmp_path / "whole", say=lambda line: None)
    session.train(config=given, data=digits(), run_dir=tmp_path / "part", seconds=0.0, say=lambda line: None)
    assert resume_small(tmp_path / "part").params_sha256 == whole.params_sha256


def test_sparse_gradients_and_frozen_layers_train(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Flatten(),
        Rounded(),
        nn.Embedding(17, 2, sparse=True),
        nn.Flatten(),
        nn.Linear(128, 8),
        nn.Tanh(),
        nn.Linear(8, 10),
    )
    model[4].requires_grad_(False)
    before = model[2].weight.detach().clone()
    train_small(tmp_path / "run", {"steps": 2}, model=model)
    assert not torch.equal(model[2].weight, before)


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * 16).round().long()
