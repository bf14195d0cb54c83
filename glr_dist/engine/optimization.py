"""Optimizers and learning-rate schedules, all from ``torch.optim``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, optim
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    StepLR,
)

from glr_dist.errors import UserError, nearest

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "nadam": optim.NAdam,
    "rmsprop": optim.RMSprop,
}
SCHEDULES = ("constant", "linear", "cosine", "one-cycle", "step", "exponential")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer.

    Attributes:
        name: sgd, adam, adamw, nadam or rmsprop.
        lr: initial (for ``one-cycle``: highest) learning rate.
        weight_decay: as the optimizer defines it (decoupled for adamw).
        options: any other arguments of the ``torch.optim`` class, such as ``momentum`` or ``betas``.
    """

    name: str = "adamw"
    lr: float = 3e-3
    weight_decay: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        if self.name not in OPTIMIZERS:
            raise UserError(f"optimizer.name = {self.name!r}: unknown; {nearest(self.name, OPTIMIZERS)}")
        if not self.lr > 0:
            raise UserError(f"optimizer.lr = {self.lr}: must be above 0")
        if self.weight_decay < 0:
            raise UserError(f"optimizer.weight_decay = {self.weight_decay}: must be 0 or more")
        known = set(inspect.signature(OPTIMIZERS[self.name]).parameters) - {"params", "lr", "weight_decay"}
        for key in self.options:
            if key not in known:
                raise UserError(f"optimizer.options.{key}: {self.name} has no such argument; {nearest(key, known)}")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the run's steps.

    Attributes:
        name: ``constant``, ``linear`` or ``cosine`` (down to 0 at the last step), ``one-cycle``, ``step`` (times ``gamma``
            every ``every`` steps) or ``exponential`` (times ``gamma`` every step).
        gamma: factor of ``step`` and ``exponential``.
        every: period of ``step``, in steps.
    """

    name: str = "linear"
    gamma: float = 0.1
    every: int = 1000

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        if self.name not in SCHEDULES:
            raise UserError(f"schedule.name = {self.name!r}: unknown; {nearest(self.name, SCHEDULES)}")
        if not 0 < self.gamma <= 1:
            raise UserError(f"schedule.gamma = {self.gamma}: must be above 0, at most 1")
        if self.every < 1:
            raise UserError(f"schedule.every = {self.every}: must be at least 1")


def build_optimizer(config: OptimizerConfig, parameters: Sequence[Tensor]) -> optim.Optimizer:
    """The torch optimizer over ``parameters``.

    Raises:
        UserError: when torch refuses the options.
    """
    try:
        return OPTIMIZERS[config.name](  # type: ignore[call-arg]
            list(parameters),
            lr=config.lr,
            weight_decay=config.weight_decay,
            **config.options,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer.options = {config.options}: {error}") from error


def assign_gradient(parameters: Sequence[Tensor], gradient: np.ndarray, step: int) -> None:
    """Give the parameters their parts of a flat gradient, as what the next optimizer step will use.

    Args:
        parameters: the trainable ones, in the model's order.
        gradient: float32 [D].
        step: counted from 0, for the message.

    Raises:
        UserError: when it is not finite; the parameters are as they were.
    """
    flat = torch.from_numpy(gradient)
    if not bool(torch.isfinite(flat).all()):
        raise UserError(f"step {step}: the gradient is not finite; lower optimizer.lr")
    start = 0
    for p in parameters:
        p.grad = flat[start : start + p.numel()].view_as(p).clone()
        start += p.numel()


def build_schedule(config: ScheduleConfig, optimizer: optim.Optimizer, lr: float, steps: int) -> LRScheduler:
    """The torch schedule, stepped once after every optimizer step.

    Args:
        config: which one.
        optimizer: what it drives.
        lr: the optimizer's learning rate.
        steps: length of the run.
    """
    if config.name == "linear":
        return LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps)
    if config.name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    if config.name == "one-cycle":
        return OneCycleLR(optimizer, max_lr=lr, total_steps=steps + 1)
    if config.name == "step":
        return StepLR(optimizer, step_size=config.every, gamma=config.gamma)
    if config.name == "exponential":
        return ExponentialLR(optimizer, gamma=config.gamma)
    return ConstantLR(optimizer, factor=1.0, total_iters=1)
