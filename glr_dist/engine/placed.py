"""The answers of a step, each in its place whoever was first, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from glr_dist.engine.phases import Phases
from glr_dist.engine.plan import BlockUnits, StepPlan, Unit
from glr_dist.engine.reconstructor import BlockGradient
from glr_dist.engine.tree import TreeSum, leaf
from glr_dist.engine.worker import Answer, Share
from glr_dist.workers.parcels import Stored


@dataclass(frozen=True)
class StepResult:
    """What one step brought.

    Attributes:
        gradient: float32 [D] over the trainable parameters, mean over the batch.
        units: the step's units.
        losses: their losses, float32 [K, R] each, by position; empty for methods that observe none.
        loss: the mean loss that the step learnt from, over copies and examples; None where nobody saw it.
        phases: where its time went.
    """

    gradient: np.ndarray
    units: Sequence[Unit]
    losses: Sequence[np.ndarray]
    loss: float | None
    phases: Phases = field(default_factory=Phases)


class Placed:
    """The answers of a step, each in its place.

    Attributes:
        plan: of the step.
        rows: what generators made, by block.
        losses: of the units, by position.
        sums: of the blocks' gradients.
        spent: seconds of evaluation and of reconstruction, of each share that is done.
        after: seconds of reconstruction, of blocks whose losses came first.
    """

    def __init__(self, plan: StepPlan) -> None:
        self.plan = plan
        self.rows: dict[int, Stored] = {}
        self.losses: dict[int, np.ndarray] = {}
        self.sums = TreeSum(len(plan.blocks))
        self.spent: list[tuple[float, float]] = []
        self.after = 0.0
        self._seen: dict[int, float | None] = {}  # by block

    def take(self, share: Share, answer: Answer) -> list[BlockUnits]:
        """Put an answer where it belongs; the blocks that are to be reconstructed now, all their losses being in."""
        self.losses.update(zip(share.units, answer.losses, strict=bool(answer.losses)))
        for node, values in answer.sums.items():
            self.sums.put(node, values)
        self._seen.update(zip(share.blocks, answer.seen, strict=bool(answer.seen)))
        self.spent.append((answer.evaluation, answer.reconstruction))
        if share.reconstruct:
            return []
        touched = self.plan.blocks[share.blocks.start : share.blocks.stop]
        return [block for block in touched if all(position in self.losses for position in block.positions)]

    def reconstructed(self, number: int, part: BlockGradient) -> None:
        """Put a block's gradient where it belongs."""
        self.sums.put(leaf(number), part.values)
        self._seen[number] = part.loss
        self.after += part.seconds

    def result(self, rows: int) -> StepResult:
        """When all is in; ``rows``: of a block."""
        batch = len(self.plan.blocks) * rows
        total = self.sums.total()
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
        parts = [self._seen[block.number] for block in self.plan.blocks]
        seen = [loss for loss in parts if loss is not None]
        return sum(seen) / batch if seen else None
