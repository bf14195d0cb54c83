"""The worker: one role for a share of a step, in this process or in an actor.

It evaluates the units of its blocks and, if asked to, reconstructs the blocks' gradients where it has just evaluated them: a
call a step is all that it needs, and what it sends home is losses, and perhaps the sums of whole subtrees of blocks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from glr_dist.engine.evaluator import Evaluator
from glr_dist.engine.plan import BlockUnits, StepPlan, Unit, described, is_float32, losses_fault
from glr_dist.engine.reconstructor import Reconstructor
from glr_dist.engine.rows import Made
from glr_dist.engine.seat import Seat
from glr_dist.engine.task import Task
from glr_dist.engine.tree import Node, TreeSum, leaf, subtrees


class LossSource(Protocol):
    """Whoever answers units with losses: an evaluator, or a journal."""

    def losses(self, theta: np.ndarray, units: Sequence[Unit], made: Made = None) -> list[np.ndarray]:
        """As `glr_dist.engine.evaluator.Evaluator.losses`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one call asks for: consecutive blocks of a step, or consecutive units where blocks are spread.

    Attributes:
        step: counted from 0.
        repeat: as `glr_dist.engine.plan.Plan.step` takes it.
        blocks: by number: those that the units are of.
        units: by position in the step.
        reconstruct: whether the blocks' gradients are wanted too; the units are all that these blocks have then.
    """

    step: int
    repeat: int
    blocks: range
    units: range
    reconstruct: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a worker sends home.

    Attributes:
        losses: of the share's units, in their order, float32 [K, R] each; none of methods that observe none.
        sums: gradients of the summed loss, float32 [D], of the largest whole subtrees of blocks; none where none is wanted.
        seen: the summed loss of each block, of methods without evaluators, which would have sent it.
        evaluation: seconds that it took.
        reconstruction: seconds that it took.
    """

    losses: list[np.ndarray]
    sums: dict[Node, np.ndarray]
    seen: list[float | None]
    evaluation: float
    reconstruction: float

    @property
    def nbytes(self) -> int:
        """Of losses and sums."""
        return sum(values.nbytes for values in (*self.losses, *self.sums.values()))

    @staticmethod
    def fault(answer: object, share: Share, plan: StepPlan, size: int) -> str | None:
        """What is wrong with an answer to a share of the step; None: nothing. Gradients have ``size`` values each."""
        units = plan.units[share.units.start : share.units.stop]
        if not isinstance(answer, Answer):
            return f"{units[0]}: {described(answer)} where an answer belongs"
        if fault := losses_fault(units, answer.losses):
            return fault
        blocks = share.blocks
        wanted = subtrees(blocks.start, blocks.stop, len(plan.blocks)) if share.reconstruct else []
        if sorted(answer.sums) != wanted:
            return f"{units[0]}: sums of blocks {sorted(answer.sums)}, where {wanted} belong"
        wrong = [values for values in answer.sums.values() if not is_float32(values, (size,))]
        return f"{units[0]}: {described(wrong[0])} where a gradient of {size} values belongs" if wrong else None


class Worker:
    """Does shares of one task's steps on one device; every call brings its own parameters."""

    def __init__(
        self, task: Task, table: np.ndarray | None, device: str = "cpu", evaluator: LossSource | None = None
    ) -> None:
        """``evaluator``: who else is to be asked for losses."""
        self.task = task
        seat = Seat(task, table, device)
        self.evaluator = evaluator or Evaluator(task, table, seat=seat)
        self.reconstructor = Reconstructor(task, table, seat=seat)

    def step(self, theta: np.ndarray, share: Share, *made: Made) -> Answer:
        """Do a share, block by block.

        Args:
            theta: all parameters of the model, float32 [D].
            share: of which step, and what of it.
            made: the rows of each of its blocks, where the call brought them along.

        Raises:
            UserError: when the loss returns a wrong shape or a value that is not finite; names step and unit.
        """
        plan = self.task.plan.step(share.step, share.repeat)
        blocks = plan.blocks[share.blocks.start : share.blocks.stop]
        losses: list[np.ndarray] = []
        seen: list[float | None] = []
        sums, times = TreeSum(len(plan.blocks)), [time.perf_counter()]
        for block, rows in zip(blocks, made or (None,) * len(blocks), strict=True):
            of_block = self._losses(theta, block, share.units, rows)
            losses += of_block
            times.append(time.perf_counter())
            if share.reconstruct:
                part = self.reconstructor.gradient(theta, block, of_block, rows)
                sums.put(leaf(block.number), part.values)
                seen.append(part.loss)
            times.append(time.perf_counter())
        spent = np.diff(times)
        return Answer(
            losses=losses,
            sums=sums.sums,
            seen=seen,
            evaluation=float(spent[::2].sum()),
            reconstruction=float(spent[1::2].sum()),
        )

    def _losses(self, theta: np.ndarray, block: BlockUnits, positions: range, rows: Made) -> list[np.ndarray]:
        if not self.task.method.observes:
            return []
        units = [unit for unit, position in zip(block.units, block.positions, strict=True) if position in positions]
        return self.evaluator.losses(theta, units, rows)


def shares(plan: StepPlan, hands: int, *, reconstruct: bool) -> list[Share]:
    """A step cut evenly for so many workers: into whole blocks, or into units where there are fewer blocks than workers.

    Only whole blocks can be reconstructed where they are evaluated.
    """
    whole = len(plan.blocks) >= hands
    ends = plan.blocks if whole else plan.units
    cuts = [number * len(ends) // min(hands, len(ends)) for number in range(min(hands, len(ends)) + 1)]
    found = []
    for first, end in pairwise(cuts):
        if whole:
            blocks = range(first, end)
            units = range(plan.blocks[first].positions.start, plan.blocks[end - 1].positions.stop)
        else:
            units = range(first, end)
            of = [block.number for block in plan.blocks if block.positions.start < end and first < block.positions.stop]
            blocks = range(of[0], of[-1] + 1)
        found.append(
            Share(step=plan.step, repeat=plan.repeat, blocks=blocks, units=units, reconstruct=reconstruct and whole)
        )
    return found
