"""Optimizers and schedules: torch's own, by name, with the learning rates that their names promise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from glr_dist.engine.config import OptimizerConfig, ScheduleConfig
from glr_dist.engine.optimization import build_optimizer, build_schedule
from glr_dist.errors import UserError

STEPS = 10


def rates(schedule: ScheduleConfig, optimizer: OptimizerConfig) -> list[float]:
    """The learning rate that each step would use, and the one after the last."""
    made = build_optimizer(optimizer, [nn.Parameter(torch.zeros(1))])
    plan = build_schedule(schedule, made, optimizer.lr, STEPS)
    found = []
    for _ in range(STEPS):
        found.append(made.param_groups[0]["lr"])
        made.step()
        plan.step()
    return [*found, made.param_groups[0]["lr"]]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ScheduleConfig(name="constant"), [0.5] * 11),
        (ScheduleConfig(name="linear"), [0.5 * (1 - t / 10) for t in range(11)]),
        (ScheduleConfig(name="cosine"), [0.25 * (1 + math.cos(math.pi * t / 10)) for t in range(11)]),
        (ScheduleConfig(name="step", gamma=0.1, every=4), [0.5] * 4 + [0.05] * 4 + [0.005] * 3),
        (ScheduleConfig(name="exponential", gamma=0.5), [0.5 * 0.5**t for t in range(11)]),
    ],
)
def test_learning_rates_are_as_named(schedule: ScheduleConfig, expected: list[float]) -> None:
    assert rates(schedule, OptimizerConfig(name="sgd", lr=0.5)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["sgd", "adam"])  # with and without a momentum that the cycle would move
def test_one_cycle_rises_to_lr_and_falls_below_its_start(name: str) -> None:
    found = rates(ScheduleConfig(name="one-cycle"), OptimizerConfig(name=name, lr=0.5))
    top = found.index(max(found))
    assert found[top] == pytest.approx(0.5, rel=0.05)
    assert found[:top] == sorted(found[:top])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert found[-1] < found[0] / 100


def test_options_reach_torch() -> None:
    config = OptimizerConfig(name="sgd", lr=0.1, weight_decay=0.01, options={"momentum": 0.9, "nesterov": True})
    config.check()
    group = build_optimizer(config, [nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 0.01)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OptimizerConfig(name="adamv"), "optimizer.name = 'adamv': unknown; did you mean 'adam"),
        (OptimizerConfig(lr=0.0), "optimizer.lr = 0.0: must be above 0"),
        (OptimizerConfig(lr=float("nan")), "optimizer.lr = nan: must be above 0"),
        (OptimizerConfig(weight_decay=-0.1), "optimizer.weight_decay = -0.1: must be 0 or more"),
        (ScheduleConfig(name="cosin"), "schedule.name = 'cosin': unknown; did you mean 'cosine'"),
        (ScheduleConfig(gamma=0.0), "schedule.gamma = 0.0: must be above 0, at most 1"),
        (ScheduleConfig(every=0), "schedule.every = 0: must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(config: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.check()


def test_an_option_that_the_optimizer_lacks_is_refused() -> None:
    config = OptimizerConfig(name="sgd", options={"momentun": 0.9})
    with pytest.raises(UserError, match=r"options\.momentun: sgd has no such argument; did you mean 'momentum'"):
        build_optimizer(config, [nn.Parameter(torch.zeros(1))])


def test_what_torch_refuses_is_told_in_one_line() -> None:
    config = OptimizerConfig(name="adam", options={"betas": [0.9, 1.5]})
    with pytest.raises(UserError, match=r"optimizer.options = .*Invalid beta parameter"):
        build_optimizer(config, [nn.Parameter(torch.zeros(1))])
