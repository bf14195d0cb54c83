"""The plan of a run: the work units of every step, the atoms that are evaluated, retried and moved between workers.

A unit says which noise is added where and to which examples; everything else follows from it. Its seed comes from
(run seed, step, site, number) and nothing else, its shape from the config, so who runs it, and how often, changes nothing.

Shapes: P draws, K copies, R rows (examples).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from glr_dist.core.units import ALL_SITES, UnitKind
from glr_dist.data.batches import Block, BlockSchedule
from glr_dist.engine.config import UnitsConfig
from glr_dist.errors import UserError
from glr_dist.seeds import Purpose, seed_of

_AUTO_VALUES = 2**21  # values of a unit's largest tensor when its size is automatic: 8 MB


@dataclass(frozen=True)
class Unit:
    """One work unit.

    Attributes:
        step: counted from 0: the step whose parameters it is evaluated at.
        kind: what is noised.
        number: among the step's units of this site.
        block: which examples.
        draws: noise draws, P.
        rows: examples, R.
        repeat: 0 where the training learns from it; else the step is estimated once more, with noise of its own.
    """

    step: int
    kind: UnitKind
    number: int
    block: Block
    draws: int
    rows: int
    repeat: int = 0

    @property
    def site(self) -> int:
        """Index of the noised site, or ALL_SITES."""
        return self.kind.site

    @property
    def shape(self) -> tuple[int, int]:
        """Of its losses, [K, R]."""
        return self.kind.losses(self.draws, self.rows)

    @property
    def values(self) -> int:
        """Noise values that it draws."""
        return self.kind.noise(self.draws, self.rows)

    def seed(self, run: int) -> np.random.SeedSequence:
        """Where its noise comes from, in the run of that seed."""
        place = self.step, self.site % 2**32, self.number
        return _seed_of(run, Purpose.REPEAT, *place, self.repeat) if self.repeat else _seed_of(run, *place)

    def journalled_seed(self, run: int) -> int:
        """The 64 bits of its seed that the journal keeps, and a replay compares."""
        return int(self.seed(run).generate_state(1, np.uint64)[0])

    def fault(self, losses: object) -> str | None:
        """What is wrong with an evaluator's losses of this unit; None: nothing.

        The evaluator has looked at its losses before it sends them, and a user's loss at fault is told as such
        (`glr_dist.core.losses.check_losses`). So whatever is wrong here is the fault of the worker or of its machine.
        """
        if not is_float32(losses, self.shape):
            return f"{self}: {described(losses)} where float32 losses of shape {self.shape} belong"
        if not np.isfinite(losses).all():  # type: ignore[call-overload]
            return f"{self}: losses that are not finite, which the evaluator itself did not see"
        fault = self.kind.fault(losses)  # type: ignore[arg-type]
        return fault and f"{self}: {fault}"

    def __str__(self) -> str:
        site = "all sites" if self.site == ALL_SITES else f"site {self.site}"
        return f"step {self.step}, {site}, unit {self.number}"


@lru_cache(maxsize=1024)  # evaluator, reconstructor and journal ask for it in turn, and none of them spawns from it
def _seed_of(run: int, *place: int) -> np.random.SeedSequence:
    return seed_of(run, *place)


@dataclass(frozen=True)
class BlockUnits:
    """One block of a step, with all its units.

    Attributes:
        number: among the step's blocks.
        block: which examples.
        units: in their order; () for methods that draw no noise.
        positions: of these units among all of the step.
    """

    number: int
    block: Block
    units: tuple[Unit, ...]
    positions: range

    def __str__(self) -> str:
        return f"epoch {self.block.epoch}, shard {self.block.shard}, block {self.block.index}"


@dataclass(frozen=True)
class StepPlan:
    """What a step consists of: its blocks in their order, and the units of one block after the other."""

    step: int
    repeat: int
    units: tuple[Unit, ...]
    blocks: tuple[BlockUnits, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """The units of every step of a run, as a pure function of config and data; a few kB, without tensors.

    Attributes:
        seed: the run's.
        schedule: which rows make up which step.
        pieces: the units that every block is given: their kinds and draws.
        observes: whether their losses come home; else they only say which noise autograd goes through.
    """

    seed: int
    schedule: BlockSchedule
    pieces: tuple[tuple[UnitKind, int], ...]
    observes: bool

    @classmethod
    def of(
        cls, kinds: Sequence[UnitKind], schedule: BlockSchedule, units: UnitsConfig, *, seed: int, observes: bool
    ) -> Plan:
        """The plan of a run whose method has these kinds of unit.

        Raises:
            UserError: when a unit has no room for one draw.
        """
        pieces = [piece for kind in kinds for piece in cut(kind, units, schedule.rows)]
        return cls(seed=seed, schedule=schedule, pieces=tuple(pieces), observes=observes)

    def step(self, step: int, repeat: int = 0) -> StepPlan:
        """The plan of one step, counted from 0; a ``repeat`` of it has the same rows, and noise of its own."""
        return _step_of(self, step, repeat)

    def _cut(self, step: int, repeat: int) -> StepPlan:
        numbers: Counter[int] = Counter()
        units: list[Unit] = []
        blocks = []
        for number, block in enumerate(self.schedule.blocks(step)):
            first = len(units)
            for kind, draws in self.pieces:
                units.append(Unit(step, kind, numbers[kind.site], block, draws, self.schedule.rows, repeat))
                numbers[kind.site] += 1
            blocks.append(BlockUnits(number, block, tuple(units[first:]), range(first, len(units))))
        return StepPlan(step, repeat, tuple(units), tuple(blocks))

    @property
    def units_per_step(self) -> int:
        """Work units."""
        return len(self.pieces) * self.schedule.blocks_per_step

    @property
    def noisy_forwards_per_step(self) -> int:
        """Forward passes of one example with noise."""
        passes = sum(kind.passes(draws, self.schedule.rows) for kind, draws in self.pieces)
        return passes * self.schedule.blocks_per_step

    @property
    def losses_per_step(self) -> int:
        """Scalars that evaluators send home."""
        shapes = [kind.losses(draws, self.schedule.rows) for kind, draws in self.pieces if self.observes]
        return sum(count * rows for count, rows in shapes) * self.schedule.blocks_per_step

    @property
    def largest_draw(self) -> int:
        """Noise values of the largest unit; 0 for methods that draw no noise."""
        return max((kind.noise(draws, self.schedule.rows) for kind, draws in self.pieces), default=0)


@lru_cache(maxsize=8)  # crew, workers and whoever checks their answers ask for it in turn
def _step_of(plan: Plan, step: int, repeat: int) -> StepPlan:
    return plan._cut(step, repeat)


def cut(kind: UnitKind, units: UnitsConfig, rows: int) -> Sequence[tuple[UnitKind, int]]:
    """How a kind is cut into units: the kind and the draws of each.

    Args:
        kind: what is noised.
        units: the most copies per unit.
        rows: examples per unit.

    Raises:
        UserError: when a unit has no room for one draw.
    """
    pieces = kind.pieces(units.copies or max(2, _AUTO_VALUES // (rows * kind.width(rows))))
    if not pieces:
        raise UserError(f"units.copies = {units.copies}: an antithetic pair is 2 copies; use 2 or more")
    return pieces


def losses_fault(units: Sequence[Unit], answer: object) -> str | None:
    """What is wrong with an evaluator's answer, which should be float32 [K, R] for each unit; None: nothing."""
    if not isinstance(answer, list) or len(answer) != len(units):
        return f"{units[0]}: {described(answer)} for {len(units)} units"
    return next((fault for fault in map(Unit.fault, units, answer) if fault), None)


def is_float32(value: object, shape: tuple[int, ...]) -> bool:
    """Whether it is a float32 array of that shape."""
    return isinstance(value, np.ndarray) and value.dtype == np.float32 and value.shape == shape


def described(value: object) -> str:
    """An answer in words."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
