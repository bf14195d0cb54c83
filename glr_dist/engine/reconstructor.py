"""The reconstructor: turns seeds and losses into the gradient of a block of examples, the only place that sees gradients."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from glr_dist.engine.plan import BlockUnits, Unit, described, is_float32
from glr_dist.engine.rows import Made
from glr_dist.engine.seat import Seat
from glr_dist.engine.task import Task
from glr_dist.methods.method import Observed


@dataclass(frozen=True)
class BlockGradient:
    """What a reconstructor sends home.

    Attributes:
        values: float32 [D] over the trained parameters, in the model's order, summed over the block's rows.
        loss: the block's summed loss, of methods without evaluators, which would have sent it.
        seconds: that it took.
    """

    values: np.ndarray
    loss: float | None
    seconds: float = 0.0

    @staticmethod
    def fault(answer: object, size: int) -> str | None:
        """What is wrong with an answer, which should be a gradient of ``size`` values; None: nothing.

        Its values may be anything: those of a model that diverges are not finite, wherever they are computed.
        """
        values = answer.values if isinstance(answer, BlockGradient) else answer
        if isinstance(answer, BlockGradient) and is_float32(values, (size,)):
            return None
        return f"{described(values)} where a gradient of {size} values belongs"


class Reconstructor:
    """Reconstructs block gradients of one task; every call brings its own parameters."""

    def __init__(self, task: Task, table: np.ndarray | None, device: str = "cpu", seat: Seat | None = None) -> None:
        """``seat``: shared with others in this process."""
        self.task = task
        self.seat = seat or Seat(task, table, device)

    def gradient(
        self, theta: np.ndarray, block: BlockUnits, losses: Sequence[np.ndarray], made: Made = None
    ) -> BlockGradient:
        """The gradient of the summed loss of one block of examples.

        Args:
            theta: all parameters of the model, float32 [D], as the evaluators had them.
            block: the examples, and the units that they were given.
            losses: what evaluators returned for these, float32 [K, R] each; () for methods that observe none.
            made: the rows, where the call brought them along.
        """
        began = time.perf_counter()
        x, labels = self.seat.at(theta, block.block, made)
        found = losses or [np.zeros(unit.shape, np.float32) for unit in block.units]
        observed = [self._observed(unit, seen) for unit, seen in zip(block.units, found, strict=True)]
        gradient = self.task.method.gradient(self.seat.net, x, labels, observed, str(block))
        flat = torch.cat([part.flatten() for part in gradient.parts]).to("cpu", torch.float32).numpy()
        return BlockGradient(flat, gradient.loss, time.perf_counter() - began)

    def _observed(self, unit: Unit, losses: np.ndarray) -> Observed:
        return Observed(
            kind=unit.kind,
            losses=torch.tensor(losses)
            .view(unit.kind.signs, -1, unit.shape[1])
            .expand(-1, -1, unit.rows)
            .to(self.seat.device),
            noise=lambda: self.seat.noise(unit),
        )
