"""The reconstructor: turns seeds and losses into the gradient of a block of examples, the only place that sees gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from glr_dist.core.noise import noise_source
from glr_dist.core.parameters import load_parameters
from glr_dist.data.batches import Block
from glr_dist.engine.plan import Unit, described, is_float32
from glr_dist.engine.rows import BlockRows, Made
from glr_dist.engine.task import Task
from glr_dist.methods.method import Observed


@dataclass(frozen=True)
class BlockGradient:
    """What a reconstructor sends home.

    Attributes:
        values: float32 [D] over the trained parameters, in the model's order, summed over the block's rows.
        loss: the block's summed loss, of methods without evaluators, which would have sent it.
    """

    values: np.ndarray
    loss: float | None

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

    def __init__(
        self, task: Task, table: np.ndarray | None, device: str = "cpu", rows: BlockRows | None = None
    ) -> None:
        self.task = task
        self.rows = rows or BlockRows(task)
        self.device = torch.device(device)
        self.net = task.net(self.device)
        self.source = noise_source(task.noise, table, self.device)

    def block_gradient(
        self,
        parameters: np.ndarray,
        block: Block,
        units: Sequence[Unit],
        losses: Sequence[np.ndarray],
        made: Made = None,
    ) -> BlockGradient:
        """The gradient of the summed loss of one block of examples.

        Args:
            parameters: flat float32 vector, all parameters of the model, as the evaluators had it.
            block: the examples.
            units: the block's units, in the step's order; () for methods that draw no noise.
            losses: what evaluators returned for them, float32 [K, R] each; () for methods that observe none.
            made: the rows, where the call brought them along.
        """
        load_parameters(self.net.model, parameters)
        x, labels = (part.to(self.device) for part in self.rows.of(parameters, block, made))
        observed = losses or [np.zeros(unit.shape, np.float32) for unit in units]
        units_seen = [self._observed(unit, seen) for unit, seen in zip(units, observed, strict=True)]
        where = f"epoch {block.epoch}, shard {block.shard}, block {block.index}"
        gradient = self.task.method.gradient(self.net, x, labels, units_seen, where)
        flat = torch.cat([part.flatten() for part in gradient.parts]).to("cpu", torch.float32).numpy()
        return BlockGradient(flat, gradient.loss)

    def _observed(self, unit: Unit, losses: np.ndarray) -> Observed:
        return Observed(
            kind=unit.kind,
            losses=torch.tensor(losses).view(unit.kind.signs, -1, unit.rows).to(self.device),
            noise=lambda: self.task.draw(self.source, unit, self.device),
        )
