"""Optimizers and learning-rate schedules, all from ``torch.optim``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, optim
from torch.optim import lr_scheduler

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
    if not bool(torch.isfinite(flat).all()):
        raise UserError(f"step {step}: the gradient is not finite; lower optimizer.lr")
    for p, part in zip(parameters, shaped(flat, parameters), strict=True):
        p.grad = part.clone()


def build_schedule(
    config: ScheduleConfig, optimizer: optim.Optimizer, lr: float, steps: int
) -> lr_scheduler.LRScheduler:
    """The torch schedule of a run of so many steps, stepped once after every optimizer step; ``lr``: the optimizer's."""
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
