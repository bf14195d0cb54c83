"""The optimizer's step, written once: training, replay and audit all advance a `Trainer`.

Who estimates the gradient is no matter of it: a crew at work, or one that takes its losses from a journal.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from glr_dist.core.parameters import flat_parameters
from glr_dist.engine.crew import Crew
from glr_dist.engine.optimization import Schedule, assign_gradient
from glr_dist.engine.placed import StepResult
from glr_dist.engine.task import Task
from glr_dist.errors import UserError, first_line
from glr_dist.models.spec import load_weights, refuse_not_finite
from glr_dist.store.checkpoint import Checkpoint, params_sha256


class Trainer:
    """Parameters, optimizer and schedule of one run."""

    def __init__(self, task: Task, optimizer: torch.optim.Optimizer, schedule: Schedule) -> None:
        """Take over a task's model, which is changed in place, and the optimizer of its trainable parameters."""
        self.model: nn.Module = task.model
        self.step = 0  # optimizer steps done
        self.lr = 0.0  # the learning rate of the last of them
        self.whole = True  # parameters and optimizer both belong to `step`; not so in the middle of one
        self._trainable = list(task.trainable.values())
        self._optimizer = optimizer
        self._schedule = schedule

    def theta(self) -> np.ndarray:
        """All parameters as they are now: float32 [D], in the model's order; nobody may write to them."""
        theta = flat_parameters(self.model).numpy()
        theta.flags.writeable = False
        return theta

    def params_sha256(self) -> str:
        """Of the parameters as they are now, as a checkpoint has it."""
        return params_sha256(self.model.state_dict())

    def advance(self, crew: Crew) -> StepResult:
        """Do one step, with the gradient that a crew estimates.

        Raises:
            UserError: for a gradient, or parameters, that are not finite; nothing has moved then.
        """
        theta = self.theta()
        with np.errstate(all="ignore"):
            finite = bool(np.isfinite(theta.sum()))  # quick; a sum may be infinite where no parameter is
        if not finite:
            self._refuse_diverged()
        result = crew.gradient(theta, self.step)
        began = time.perf_counter()
        assign_gradient(self._trainable, result.gradient, self.step)
        self.whole = False
        self.lr = self._optimizer.param_groups[0]["lr"]
        self._optimizer.step()
        self._schedule.step()
        self.step += 1
        self.whole = True
        return replace(result, phases=result.phases.with_optimizer(time.perf_counter() - began))

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights.

        Raises:
            UserError: when these are not finite: nobody could go on from them, or use them.
        """
        self._refuse_diverged()
        return {"optimizer": self._optimizer.state_dict(), "schedule": self._schedule.state_dict()}

    def _refuse_diverged(self) -> None:
        refuse_not_finite(self.model, f"step {self.step}: the training has diverged (lower optimizer.lr)")

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            UserError: when it is another model's.
        """
        load_weights(self.model, checkpoint.weights, checkpoint.place)
        try:
            self._optimizer.load_state_dict(checkpoint.training["optimizer"])
            self._schedule.load_state_dict(checkpoint.training["schedule"])
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{checkpoint.place}: its training.pt is none of this optimizer and schedule: {first_line(error)}"
            ) from error
        self.step = checkpoint.step
