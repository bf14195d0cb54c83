"""The Python door: trains in place, leaves torch as it was; mistakes are told in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import ES, JOINT, digits, small_config, train_small
from torch import Tensor, nn

import glr_dist
from glr_dist.core.losses import cross_entropy
from glr_dist.data.arrays import ArrayDataset
from glr_dist.errors import UserError
from glr_dist.store.checkpoint import load_checkpoint, params_sha256

RELU = {"method": "bp", "model.activation": "relu"}


def test_training_happens_in_place_and_says_where(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), glr_dist.Heaviside(), nn.Linear(6, 10))
    result = train_small(tmp_path / "run", model=model)
    checkpoint = load_checkpoint(result.checkpoint)
    assert result.run == str(tmp_path / "run")
    assert checkpoint.step == result.steps == 12
    assert result.params_sha256 == checkpoint.meta["params_sha256"] == params_sha256(model.state_dict())
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in digits().batches("test", 100))
    assert result.test_accuracy == right / 397
    assert (result.bytes_up, result.bytes_down) == (0, 0)  # in-process: nothing crossed a wire


def test_data_without_validation_and_test_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bare = ArrayDataset((rng.random((64, 1, 8, 8)), np.arange(64) % 10), validation=0.0, shards=1)
    result = train_small(tmp_path / "run", data=bare)
    assert (result.validation_accuracy, result.test_accuracy) == (None, None)


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train_small(tmp_path / "run", {"engine.threads": 2, "steps": 1})
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def nan_from(call: int) -> Callable[[Tensor, Tensor], Tensor]:
    calls = iter(range(10**6))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        values = cross_entropy(logits, labels)
        return values * float("nan") if next(calls) >= call else values

    return loss


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels)


def test_a_loss_that_returns_nan_names_step_and_unit_and_keeps_the_run(tmp_path: Path) -> None:
    # 4 blocks of 2 pieces a site, in a call a sign at site 0, for both signs at the outputs: 24 calls a step, block by block
    with pytest.raises(UserError, match="loss: step 1, site 1, unit 1 returned nan; losses must be finite"):
        train_small(tmp_path / "run", loss=nan_from(1 + 24 + 5))  # the first call is a trial
    assert load_checkpoint(tmp_path / "run").step == 1


@pytest.mark.parametrize("keys", [{}, JOINT, ES], ids=["layerwise", "joint", "es"])
def test_a_loss_of_the_wrong_shape_is_refused_before_the_first_step(keys: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"loss: a trial before the first step returned shape \(\) for 8 examples; a loss"
    ):
        train_small(tmp_path / "run", keys, loss=mean_loss)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="loss: returned a float; a loss must return a tensor"):
        train_small(tmp_path / "other", keys, loss=lambda logits, labels: 1.5)


def test_losses_gone_wrong_in_an_actor_are_told_in_the_same_line(tmp_path: Path, ray_session: None) -> None:
    def broken(logits: Tensor, labels: Tensor) -> Tensor:  # travels by value, being local
        values = nn.functional.cross_entropy(logits, labels, reduction="none")
        return values.masked_fill(labels == 3, float("inf"))

    with pytest.raises(UserError) as caught:
        train_small(tmp_path / "run", {"engine.workers": 1}, loss=broken)
    assert str(caught.value).startswith("loss: step 0, site 0, unit ")
    assert "returned inf; losses must be finite" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert type(caught.value) is UserError


def test_an_optimizer_that_blows_up_is_told(tmp_path: Path) -> None:
    keys = RELU | {"optimizer.name": "sgd", "optimizer.lr": 1e30}
    with pytest.raises(
        UserError, match=r"epoch \d+, shard \d+, block \d+ returned (inf|nan|-inf); .*lower optimizer.lr"
    ):
        train_small(tmp_path / "run", keys)


def test_a_table_too_small_for_a_unit_is_told(tmp_path: Path) -> None:
    keys = {"noise.table_size": 1024, "estimator.copies": 400, "units.copies": 400}
    message = r"noise.table_size = 1024: the largest work unit draws 19200 values; give at least 76800"
    with pytest.raises(UserError, match=message):
        train_small(tmp_path / "run", keys)  # 200 draws x 8 rows x 12 units


def test_a_preset_is_named_by_a_string(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="did you mean 'digits-threshold'"):
        glr_dist.train(config="digit-threshold", run_dir=tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    result = glr_dist.train(data=digits(), config=small_config({"steps": 1}))
    assert Path(result.run).parent == tmp_path / "runs"  # a name of its own
