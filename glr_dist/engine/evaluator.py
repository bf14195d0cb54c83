"""The evaluator: turns work units into losses. It sees parameters and data, and sends home nothing but scalars."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch

from glr_dist.engine.plan import Unit
from glr_dist.engine.rows import Made
from glr_dist.engine.seat import Seat
from glr_dist.engine.task import Task


class Evaluator:
    """Evaluates units of one task on one device; every call brings its own parameters."""

    def __init__(self, task: Task, table: np.ndarray | None, device: str = "cpu", seat: Seat | None = None) -> None:
        """``seat``: shared with others in this process."""
        self.task = task
        self.seat = seat or Seat(task, table, device)

    @torch.no_grad()
    def losses(self, theta: np.ndarray, units: Sequence[Unit], made: Made = None) -> list[np.ndarray]:
        """The losses of each unit, in the units' order.

        Args:
            theta: all parameters of the model, float32 [D].
            units: any units of one step; of one block if the call brings its rows.
            made: the rows, where the call brought them along.

        Returns:
            For each unit float32 [K, R]: all copies of sign +, then, with antithetic pairs, those of sign -.

        Raises:
            UserError: when the loss returns a wrong shape or a value that is not finite; names step and unit.
        """
        results = []
        for block, of_block in groupby(units, lambda unit: unit.block):
            x, labels = self.seat.at(theta, block, made)
            results += [self._of_unit(unit, x, labels) for unit in of_block]
        return results

    def _of_unit(self, unit: Unit, x: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        noise = self.seat.noise(unit)
        losses = self.task.method.losses(self.seat.net, unit.kind, noise, x, labels, str(unit))
        assert tuple(losses.shape) == unit.shape, f"{unit}: {tuple(losses.shape)} where {unit.shape} belong"
        return losses.to("cpu", torch.float32).numpy()
