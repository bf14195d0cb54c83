"""Optimizers and learning-rate schedules, all from ``torch.optim``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, optim
from torch.optim import lr_scheduler

from glr_dist.core.losses import all_finite
from glr_dist.core.parameters import shaped
from glr_dist.engine.config import OPTIMIZERS, OptimizerConfig, ScheduleConfig
from glr_dist.errors import UserError, nearest


def build_optimizer(config: OptimizerConfig, parameters: Sequence[Tensor]) -> optim.Optimizer:
    """The torch optimizer over ``parameters``.

    Raises:
        UserError: for options that the optimizer has not, or that torch refuses.
    """
    cls: type[optim.Optimizer] = getattr(optim, OPTIMIZERS[config.name])
    known = set(inspect.signature(cls).parameters) - {"params", "lr", "weight_decay"}
    for key in config.options:
        if key not in known:
            raise UserError(f"optimizer.options.{key}: {config.name} has no such argument; {nearest(key, known)}")
    try:
        return cls(list(parameters), lr=config.lr, weight_decay=config.weight_decay, **config.options)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer.options = {config.options}: {error}") from error


def assign_gradient(parameters: Sequence[Tensor], gradient: np.ndarray, step: int) -> None:
    """Give the trainable parameters, in the model's order, their parts of a gradient, float32 [D], for the next step.

    Raises:
        UserError: when it is not finite; the parameters are as they were.
    """
    flat = torch.from_numpy(gradient)
    if not all_finite(flat):
        raise UserError(f"step {step}: the gradient is not finite; lower optimizer.lr")
    for p, part in zip(parameters, shaped(flat, parameters), strict=True):
        p.grad = part.clone()


class Schedule(Protocol):
    """What a trainer does with a schedule of the learning rate."""

    def step(self) -> None:
        """Go on to the next optimizer step's learning rate."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept; the optimizer's own state is loaded already."""


def build_schedule(config: ScheduleConfig, optimizer: optim.Optimizer, lr: float, steps: int) -> Schedule:
    """The schedule of a run of so many steps, stepped once after every optimizer step; ``lr``: the optimizer's."""
    if config.legs and config.name in ("linear", "cosine", "one-cycle"):  # the others know nothing of the last step
        return _Legs(config, optimizer, lr, steps)
    return _leg(config, optimizer, lr, steps)


def _leg(config: ScheduleConfig, optimizer: optim.Optimizer, lr: float, steps: int) -> lr_scheduler.LRScheduler:
    """The torch schedule of so many steps."""
    if config.name == "linear":
        return lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
    if config.name == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    if config.name == "one-cycle":
        return lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps + 1)
    if config.name == "step":
        return lr_scheduler.StepLR(optimizer, step_size=config.every, gamma=config.gamma)
    if config.name == "exponential":
        return lr_scheduler.ExponentialLR(optimizer, gamma=config.gamma)
    return lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=1)


class _Legs:
    """The schedule of a run that was extended: after each former last step it begins anew, for the steps up to the next."""

    def __init__(self, config: ScheduleConfig, optimizer: optim.Optimizer, lr: float, steps: int) -> None:
        self._config, self._optimizer, self._lr = config, optimizer, lr
        self._ends = (*config.legs, steps)
        self._done = 0
        self._schedule = self._begun()

    def step(self) -> None:
        self._schedule.step()
        self._done += 1
        self._turn()

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done, "leg": self._schedule.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        former = "leg" not in state_dict  # of a checkpoint from before the run was extended
        self._done = state_dict["last_epoch"] if former else state_dict["done"]
        rates = [dict(group) for group in self._optimizer.param_groups]
        self._schedule = self._begun()  # which sets learning rates, and the momentum of one-cycle
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group.update(rate)
        self._schedule.load_state_dict(state_dict if former else state_dict["leg"])
        self._turn()

    def _turn(self) -> None:
        """Begin the next leg where one has come to its end."""
        if self._done in self._ends[:-1] and self._schedule.last_epoch:
            self._schedule = self._begun()

    def _begun(self) -> lr_scheduler.LRScheduler:
        """The schedule of the leg in which the next step lies, at its beginning."""
        number = min(sum(end <= self._done for end in self._ends), len(self._ends) - 1)
        before, end = (0, *self._ends)[number : number + 2]
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] = self._lr
        return _leg(self._config, self._optimizer, self._lr, end - before)
