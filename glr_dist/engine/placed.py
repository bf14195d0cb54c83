"""The answers of a step, each in its place whoever was first, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glr_dist.engine.plan import BlockUnits, StepPlan, Unit
from glr_dist.engine.reconstructor import BlockGradient
from glr_dist.workers.parcels import Stored


@dataclass(frozen=True)
class StepResult:
    """What one step brought.

    Attributes:
        gradient: float32 [D] over the trainable parameters, mean over the batch.
        units: the step's units.
        losses: their losses, float32 [K, R] each, by position; empty for methods that observe none.
        loss: the mean loss that the step learnt from, over copies and examples; None where nobody saw it.
    """

    gradient: np.ndarray
    units: Sequence[Unit]
    losses: Sequence[np.ndarray]
    loss: float | None


class Placed:
    """The answers of a step, each in its place.

    Attributes:
        plan: of the step.
        rows: what generators made, by block.
        losses: of the units, by position.
        parts: the blocks' gradients.
    """

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan
        self.rows: dict[int, Stored] = {}
        self.losses: dict[int, np.ndarray] = {}
        self.parts: dict[int, BlockGradient] = {}
        self._owner = {position: block for block in plan.blocks for position in block.positions}

    def place(self, positions: Sequence[int], losses: Sequence[np.ndarray]) -> list[BlockUnits]:
        """Put losses where they belong; the block that is whole now, if one is."""
        self.losses.update(zip(positions, losses, strict=True))
        block = self._owner[positions[0]]
        return [block] if all(position in self.losses for position in block.positions) else []

    def result(self, rows: int) -> StepResult:
        """When all parts are in; ``rows``: of a block."""
        total = self.parts[0].values.copy()
        for number in range(1, len(self.parts)):
            total += self.parts[number].values
        batch = len(self.parts) * rows
        total /= np.float32(batch)
        losses = [self.losses[position] for position in range(len(self.losses))]
        return StepResult(total, self.plan.units, losses, self._loss(losses, batch))

    def _loss(self, losses: Sequence[np.ndarray], batch: int) -> float | None:
        """Over all that evaluators sent, or over what the reconstructors saw by themselves."""
        if losses:
            whole = [value for unit, value in zip(self.plan.units, losses, strict=True) if unit.kind.whole]
            if not whole:
                return None
            return sum(float(value.sum(dtype=np.float64)) for value in whole) / sum(value.size for value in whole)
        parts = [self.parts[block.number].loss for block in self.plan.blocks]
        seen = [loss for loss in parts if loss is not None]
        return sum(seen) / batch if seen else None
