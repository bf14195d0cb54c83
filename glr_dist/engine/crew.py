"""The crew of a run: workers, reconstructors and generators, in this process or as actors; one verb: `Crew.gradient`.

Workers evaluate, and reconstruct what they have evaluated, or leave that to others: `glr_dist.engine.worker`. Which is
quicker is measured, and changes no bit.

Rows that a generator made stay in the object store of its node; the driver sees references alone. A reference is a
shortcut: who can't follow it any more makes the rows itself, bit for bit the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from glr_dist.engine.handover import Handover, steps_left
from glr_dist.engine.phases import Phases
from glr_dist.engine.placed import Placed, StepResult
from glr_dist.engine.plan import BlockUnits
from glr_dist.engine.task import Task
from glr_dist.engine.worker import Share, Worker, shares
from glr_dist.errors import UserError
from glr_dist.workers.choice import Choice
from glr_dist.workers.parcels import Vector
from glr_dist.workers.pool import Call, Pool
from glr_dist.workers.relay import drain

_ROWS, _STEP, _GRADIENT = "made", "step", "gradient"  # verbs of generators, workers, reconstructors
_FLUSH_SECONDS = 0.1  # that calls have to leave before this process does its own share
_CONSIDER_EVERY = 10  # steps
_NO_PARAMETERS = Vector(np.empty(0, np.float32))  # for rows that don't depend on the network in training
HERE, DRIVER, WORKERS = "here", "driver", "workers"  # all in this process; workers evaluate, and who reconstructs


@dataclass(eq=False)
class Crew:
    """Workers, reconstructors and perhaps generators of one task."""

    task: Task
    evaluators: Pool  # their role is a `Worker`
    reconstructors: Pool  # their role is a `Reconstructor`
    generators: Pool | None = None  # their role is a `RowSupply`, whose answers stay where they are; None: nobody is
    choice: Choice = field(default_factory=lambda: Choice((HERE,)))  # of how a step is done
    spread: bool = True  # whether the units of one block may go to several workers, and the driver reconstruct it
    here: Worker | None = None  # who does all of a step in this process, or a share of it; None: nobody
    coming: Handover | None = None  # workers that may come while the training is under way, and then share with `here`
    ways_with_workers: tuple[str, ...] = ()  # that are open when they have come
    workers_came: bool = False
    say: Callable[[str], None] = lambda line: None  # told in a line of choices that were made
    steps: int = 0  # of the run, for forecasts
    until: float | None = None  # on the monotonic clock, when the run's time is over
    bytes_up: int = 0  # of losses and sums from worker actors so far

    def gradient(self, parameters: np.ndarray, step: int, repeat: int = 0) -> StepResult:
        """Evaluate a step's units and reconstruct the gradient.

        Results are placed by their unit's position and added along a fixed tree, whoever was first. All parameters are
        float32 [D], steps are counted from 0. A ``repeat`` estimates the same gradient from noise of its own.
        """
        if self.coming is not None:
            self._look_for_workers(self.coming, step)
        began = time.perf_counter()
        placed = Placed(self.task.plan.step(step, repeat))
        way = self.choice.way
        if way == HERE:
            assert self.here is not None
            (all_of_it,) = shares(placed.plan, 1, reconstruct=True)
            placed.take(all_of_it, self.here.step(parameters, all_of_it))
        else:
            self._together(Vector(parameters), placed, reconstruct=way == WORKERS)
        result = placed.result(self.task.plan.schedule.rows)
        seconds = time.perf_counter() - began
        self.choice.took(seconds)
        after = placed.after / max(1, self.reconstructors.size)
        phases = Phases.of(seconds, placed.spent, after, in_turn=not self.workers)
        return replace(result, phases=phases)

    def _together(self, theta: Vector, placed: Placed, *, reconstruct: bool) -> None:
        """By calls to the pools, some of which may be of this process."""
        plan, waiting = placed.plan, self._shares(placed, reconstruct=reconstruct)
        if self.generators is not None:
            needed = theta if self.task.surrogate is None else _NO_PARAMETERS
            for block in plan.blocks:
                self.generators.submit(Call(block.number, _ROWS, (needed, block.block), near=block.block.shard))
        own = waiting.pop(0) if self.coming is not None and len(waiting) > 1 else None
        self._begin(theta, placed, waiting)
        if own is not None:
            self._do(own, theta, placed)
        for call, answer in drain(*self.pools):
            if call.verb == _ROWS:
                placed.rows[call.key] = answer
                self._begin(theta, placed, waiting)
            elif call.verb == _STEP:
                self.bytes_up += answer.nbytes if self.evaluators.size else 0
                for block in placed.take(call.arguments[1], answer):
                    self._reconstruct(theta, placed, block)
            else:
                placed.reconstructed(call.key, answer)

    def _do(self, share: Share, theta: Vector, placed: Placed) -> None:
        """A share of the step in this process, while workers do theirs."""
        assert self.here is not None
        self.evaluators.flush(_FLUSH_SECONDS)
        for block in placed.take(share, self.here.step(theta.values, share)):
            self._reconstruct(theta, placed, block)

    def _look_for_workers(self, coming: Handover, step: int) -> None:
        """Have workers started if that pays, and take them over when they are there."""
        typical = self.choice.typical().get(HERE)
        if typical and not coming.begun and step % _CONSIDER_EVERY == 0:
            coming.consider(typical, steps_left(step, self.steps, typical, self.until))
        if not coming.begun or self.workers_came:
            return
        try:
            pool = coming.ready()
        except UserError as error:
            self.say(f"all work stays in this process: {error}")
            return
        if pool is not None:
            self.evaluators, self.workers_came = pool, True
            self.choice.add(self.ways_with_workers)

    def _shares(self, placed: Placed, *, reconstruct: bool) -> list[Share]:
        """What the step is cut into; a share a block where this process alone evaluates."""
        blocks = len(placed.plan.blocks)
        hands = self.evaluators.hands if self.evaluators.size else blocks
        hands = hands + 1 if self.coming is not None else hands  # this process does a share
        hands = hands if self.spread else min(hands, blocks)
        return shares(placed.plan, hands, reconstruct=reconstruct)

    def _begin(self, theta: Vector, placed: Placed, waiting: list[Share]) -> None:
        """Hand out the shares that have their rows."""
        for share in list(waiting):
            rows = [placed.rows[number] for number in share.blocks if number in placed.rows]
            if self.generators is not None and len(rows) < len(share.blocks):
                continue
            waiting.remove(share)
            blocks = placed.plan.blocks[share.blocks.start : share.blocks.stop]
            if self.task.method.observes:
                call = Call(tuple(share.units), _STEP, (theta, share, *rows), near=blocks[0].block.shard)
                self.evaluators.submit(call)
            else:
                for block in blocks:
                    self._reconstruct(theta, placed, block)

    def _reconstruct(self, theta: Vector, placed: Placed, block: BlockUnits) -> None:
        losses = [placed.losses[position] for position in block.positions] if self.task.method.observes else []
        arguments = theta, block, losses, placed.rows.get(block.number)
        self.reconstructors.submit(Call(block.number, _GRADIENT, arguments, near=block.block.shard))

    @property
    def pools(self) -> list[Pool]:
        """Everybody: first those whose answers the others need."""
        pools = (self.generators, self.evaluators, self.reconstructors)
        return [pool for pool in pools if pool is not None]

    @property
    def workers(self) -> int:
        """Worker actors that take part in a step; 0: all is done in this process."""
        return 0 if self.choice.way == HERE else self.evaluators.size

    @property
    def remote(self) -> bool:
        """Whether there are actors."""
        return any(pool.size for pool in self.pools)

    @property
    def workers_lost(self) -> int:
        """Actors that were replaced: they had died, or answered what cannot be."""
        return sum(pool.counts.deaths for pool in self.pools)

    @property
    def bytes_down(self) -> int:
        """Of parameters and units to evaluator actors so far."""
        return self.evaluators.counts.bytes_down

    @property
    def units_in_flight(self) -> int:
        """Work units that evaluator actors have and that nobody has answered."""
        return len({position for member in self.evaluators.members() for call in member.calls for position in call.key})

    def chosen(self, way: str, took: Mapping[str, float]) -> None:
        """Tell what was measured to be the quickest way to do a step, and the seconds that each takes."""
        names = {
            HERE: "this process does it all",
            DRIVER: "the driver reconstructs",
            WORKERS: "workers reconstruct what they evaluate",
        }
        others = [f"{1000 * seconds:.1f} ms where {names[other]}" for other, seconds in took.items() if other != way]
        self.say(f"{names[way]}: {1000 * took[way]:.1f} ms a step, {', '.join(others)}")

    def close(self) -> None:
        """Let the actors go."""
        if self.coming is not None:
            self.coming.close()
        else:
            for pool in self.pools:
                pool.close()
