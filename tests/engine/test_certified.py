"""Training on the proof: radius by step, rows of radius 0, the same bits by any crew, and what a run leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import (
    STEPS,
    check_that_crews_agree,
    check_that_it_lasts,
    digits,
    small_config,
    small_task,
    train_small,
)

from glr_dist.attacks.exact.attack import proved
from glr_dist.data.batches import BlockSchedule
from glr_dist.engine.certified import Certified
from glr_dist.engine.config import CertifyConfig, ScheduleConfig
from glr_dist.engine.seat import Seat
from glr_dist.errors import UserError
from glr_dist.runs.network import open_network

CERTIFIED: dict[str, Any] = {
    "loss": "certified",
    "certify.epsilon": 0.1,
    "model.input_threshold": 0.5,
    "estimator.scheme": "flips",
    "units.copies": 16,
}
RUNS: dict[str, dict[str, Any]] = {
    "flips": CERTIFIED,
    "drawn, two layers": CERTIFIED | {"model.hidden": [10, 8], "estimator.flips": 6, "certify.mix": 0.25},
    "0-1": CERTIFIED | {"loss": "certified-zero-one", "estimator.scheme": "joint", "augment.shift": 1},
    "thermometer, copies": CERTIFIED | {
        "estimator.scheme": "layerwise",
        "model.input_threshold": 0.0,
        "model.input_thresholds": [0.3, 0.6],
    },
    "straight-through": CERTIFIED | {"method": "straight-through"},
    "relu": CERTIFIED | {"method": "bp", "model.activation": "relu", "model.input_threshold": 0.0},
    "convolution": CERTIFIED | {"model.kind": "conv", "model.hidden": [50], "model.channels": [4], "model.kernel": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_is_resumed_replayed_and_audited_bit_for_bit(name: str, tmp_path: Path) -> None:
    check_that_it_lasts(tmp_path, RUNS[name])


@pytest.mark.parametrize("name", ["flips", "drawn, two layers"])
def test_workers_and_reconstructors_give_the_same_bits(name: str, tmp_path: Path, ray_session: None) -> None:
    check_that_crews_agree(tmp_path, RUNS[name])


def test_a_network_trained_on_the_proof_is_proved_where_another_is_not(tmp_path: Path) -> None:
    keys = {"steps": 300, "batch": 64, "units.rows": 32, "model.hidden": [40], "noise.scale": 0.4, "optimizer.lr": 0.02}
    x, labels = next(iter(digits().batches("test", 400)))
    share = {}
    for name, more in (("certified", {"certify.epsilon": 0.2}), ("cross-entropy", {"certify.epsilon": 0.0})):
        result = train_small(tmp_path / name, CERTIFIED | keys | more | {"loss": name})
        share[name] = float(proved(open_network(result.checkpoint).model, x, labels, 0.15).float().mean())
    assert share["certified"] > share["cross-entropy"] + 0.15


def test_the_radius_grows_with_the_step_alone() -> None:
    certify = CertifyConfig(epsilon=0.3, ramp=0.4)
    known = Certified.of("certified", certify, ScheduleConfig(), 100, (1, 8, 8))
    assert known is not None
    assert [known.radius(step) for step in (0, 10, 40, 99)] == pytest.approx([0.0, 0.075, 0.3, 0.3])
    extended = Certified.of("certified", certify, ScheduleConfig(legs=(100,)), 1000, (1, 8, 8))
    assert extended == known  # so that a replay of the first steps finds what they were
    assert Certified.of("cross-entropy", CertifyConfig(), ScheduleConfig(), 100, (64,)) is None
    at_once = Certified.of("certified", CertifyConfig(epsilon=0.3, ramp=0.0), ScheduleConfig(), 100, (64,))
    assert at_once is not None
    assert at_once.radius(0) == 0.3


def test_the_first_rows_have_radius_0_and_the_label_goes_along() -> None:
    known = Certified(epsilon=0.25, ramp=4, mix=0.5, shape=(2,))
    x, labels = torch.tensor([[0.5, 0.5]] * 4), torch.tensor([1, 0, 2, 1])
    asked, order = known.rows(x, labels, 2)
    assert order.tolist() == [0, 1, 1, 2]
    assert asked[:2].tolist() == [[0.5] * 4 + [0.0], [0.5] * 4 + [1.0]]
    assert asked[2:].tolist() == [[0.375, 0.375, 0.625, 0.625, 1.0], [0.375, 0.375, 0.625, 0.625, 2.0]]
    with pytest.raises(UserError, match=r"images: pixels from 0.5 to 3"):
        known.rows(x * torch.tensor([1.0, 6.0]), labels, 2)


def test_a_seat_asks_at_the_radius_of_the_block_s_step() -> None:
    task = small_task(CERTIFIED | {"certify.ramp": 1.0})
    seat = Seat(task, task.make_table())
    theta = np.concatenate([p.detach().numpy().ravel() for p in task.model.parameters()])
    for step in (0, 6, STEPS - 1):
        for block in task.plan.schedule.blocks(step):
            x, labels = seat.at(theta, block)
            low, high = x[:, :-1].chunk(2, dim=1)
            assert float((high - low).max()) == pytest.approx(min(0.2, 2 * 0.1 * step / STEPS), abs=1e-6)
            assert torch.equal(x[:, -1].long(), labels)


def test_every_block_knows_its_step() -> None:
    schedule = BlockSchedule([50, 43], batch=16, rows=8, seed=3)
    for step in range(3 * schedule.steps_per_epoch):
        assert {schedule.step_of(block) for block in schedule.blocks(step)} == {step}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"loss": "certified"}, r"certify.epsilon = 0.0: loss = 'certified' needs the radius"),
        ({"certify.epsilon": 0.1}, r"certify.epsilon = 0.1: changes nothing with loss = 'cross-entropy'"),
        ({"certify.mix": 0.1}, r"changes nothing with loss = 'cross-entropy'; leave \[certify\] out"),
        (CERTIFIED | {"certify.epsilon": 1.5}, r"certify.epsilon = 1.5: must be from 0 to 1"),
        (CERTIFIED | {"certify.ramp": -0.1}, r"certify.ramp = -0.1: must be from 0 to 1"),
        ({"model.input_thresholds": [0.6, 0.3]}, r"model.input_thresholds = \[0.6, 0.3\]: must ascend"),
        ({"model.input_thresholds": [0.3], "model.input_threshold": 0.5}, r"stands beside model.input_thresholds"),
        ({"augment.shift": -1}, r"augment.shift = -1: must be 0 or more, in pixels"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_config(keys)


def test_a_network_without_bounds_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss = 'certified': knows nothing of layer '2' \(Tanh\)"):
        small_task(
            CERTIFIED | {"model.activation": "tanh", "model.input_threshold": 0.0, "estimator.scheme": "layerwise"}
        )
