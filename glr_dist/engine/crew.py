"""The crew of a run: workers, reconstructors and generators, in this process or as actors; one verb: `Crew.gradient`.

Workers evaluate, and reconstruct what they have evaluated, or leave that to others: `glr_dist.engine.worker`. Which is
quicker is measured, and changes no bit.

Rows that a generator made stay in the object store of its node; the driver sees references alone. A reference is a
shortcut: who can't follow it any more makes the rows itself, bit for bit the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from glr_dist.engine.config import EngineConfig
from glr_dist.engine.placed import Placed, StepResult
from glr_dist.engine.plan import BlockUnits
from glr_dist.engine.reconstructor import BlockGradient, Reconstructor
from glr_dist.engine.rows import RowSupply
from glr_dist.engine.task import Task
from glr_dist.engine.worker import Answer, LossSource, Share, Worker, shares
from glr_dist.errors import UserError
from glr_dist.workers.actor import actor_starter
from glr_dist.workers.choice import Choice
from glr_dist.workers.cluster import spare_room, workers_available
from glr_dist.workers.parcels import Vector
from glr_dist.workers.pool import Call, LocalPool, Pool, PoolPolicy
from glr_dist.workers.ray_pool import RayPool
from glr_dist.workers.relay import drain

_ROWS, _STEP, _GRADIENT = "made", "step", "gradient"  # verbs of generators, workers, reconstructors
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
    say: Callable[[str], None] = lambda line: None  # told in a line of choices that were made
    bytes_up: int = 0  # of losses and sums from worker actors so far

    def gradient(self, parameters: np.ndarray, step: int, repeat: int = 0) -> StepResult:
        """Evaluate a step's units and reconstruct the gradient.

        Results are placed by their unit's position and added along a fixed tree, whoever was first. All parameters are
        float32 [D], steps are counted from 0. A ``repeat`` estimates the same gradient from noise of its own.
        """
        began = time.perf_counter()
        placed = Placed(self.task.plan.step(step, repeat))
        way = self.choice.way
        if way == HERE:
            assert isinstance(self.evaluators, LocalPool)
            (all_of_it,) = shares(placed.plan, 1, reconstruct=True)
            placed.take(all_of_it, self.evaluators.role.step(parameters, all_of_it))
        else:
            self._together(Vector(parameters), placed, reconstruct=way == WORKERS)
        result = placed.result(self.task.plan.schedule.rows)
        self.choice.took(time.perf_counter() - began)
        return result

    def _together(self, theta: Vector, placed: Placed, *, reconstruct: bool) -> None:
        """By calls to the pools, some of which may be of this process."""
        plan, waiting = placed.plan, self._shares(placed, reconstruct=reconstruct)
        if self.generators is not None:
            needed = theta if self.task.surrogate is None else _NO_PARAMETERS
            for block in plan.blocks:
                self.generators.submit(Call(block.number, _ROWS, (needed, block.block), near=block.block.shard))
        self._begin(theta, placed, waiting)
        for call, answer in drain(*self.pools):
            if call.verb == _ROWS:
                placed.rows[call.key] = answer
                self._begin(theta, placed, waiting)
            elif call.verb == _STEP:
                self.bytes_up += answer.nbytes if self.workers else 0
                for block in placed.take(call.arguments[1], answer):
                    self._reconstruct(theta, placed, block)
            else:
                placed.reconstructed(call.key, answer)

    def _shares(self, placed: Placed, *, reconstruct: bool) -> list[Share]:
        """What the step is cut into; a share a block where this process alone evaluates."""
        blocks = len(placed.plan.blocks)
        hands = self.evaluators.hands if self.workers else blocks
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
        """Evaluator actors; 0 in-process."""
        return self.evaluators.size

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
        names = {DRIVER: "the driver reconstructs", WORKERS: "workers reconstruct what they evaluate"}
        others = [f"{1000 * seconds:.1f} ms where {names[other]}" for other, seconds in took.items() if other != way]
        self.say(f"{names[way]}: {1000 * took[way]:.1f} ms a step, {', '.join(others)}")

    def close(self) -> None:
        """Let the actors go."""
        for pool in self.pools:
            pool.close()


def crew_here(task: Task, table: np.ndarray | None, device: str = "cpu", evaluator: LossSource | None = None) -> Crew:
    """Who does it all in this process, with this evaluator in the place of its own."""
    worker = Worker(task, table, device, evaluator)
    return Crew(task, LocalPool(worker), LocalPool(worker.reconstructor))


def assemble_crew(
    task: Task,
    engine: EngineConfig,
    policy: PoolPolicy = PoolPolicy(),  # noqa: B008  it is frozen
) -> Crew:
    """Start the crew that the config asks for; Ray must be connected if there are actors in it.

    ``policy``: how patient the pools are with their actors; how many calls may wait at one is for the config to say.

    Raises:
        UserError: when the cluster has not what is asked for, actors don't start in time, or the noise source
            would differ between their devices.
    """
    if not task.method.observes:
        engine = replace(engine, workers=0)
    _refuse_mixed_devices(task, engine)
    table = task.make_table()
    crew = crew_here(task, table)
    if engine.workers or engine.reconstructors or engine.generators:
        _start_actors(crew, engine, replace(policy, in_flight=engine.in_flight), table)
        crew.choice, crew.spread = Choice(_ways(engine), crew.chosen), not engine.gpus_per_worker
    return crew


def _ways(engine: EngineConfig) -> tuple[str, ...]:
    """How a step can be done with actors, without a changed bit."""
    if not engine.workers or engine.reconstructors or engine.reconstruct == "driver":
        return (DRIVER,)
    if engine.reconstruct == "workers" or engine.gpus_per_worker:
        return (WORKERS,)
    return DRIVER, WORKERS


def _start_actors(crew: Crew, engine: EngineConfig, policy: PoolPolicy, table: np.ndarray | None) -> None:
    """Put pools of actors into a crew, where the config wants some."""
    import ray

    task, threads, gpus = crew.task, engine.threads, engine.gpus_per_worker
    most = task.plan.units_per_step
    values = sum(p.numel() for p in task.trainable.values())
    workers = workers_available(
        engine.workers, engine.reconstructors, generators=engine.generators, threads=threads, gpus=gpus, most=most
    )
    shared = ray.put(task), None if table is None else ray.put(table), "cuda" if gpus else "cpu"

    def room(size: int) -> int:
        return max(0, min(spare_room(threads=threads, gpus=gpus), most - size))

    started: list[RayPool] = []
    with ExitStack() as undo:

        def start(size: int, starter: Callable[[], Any], **options: Any) -> RayPool:
            started.append(RayPool(starter, size, policy, **options))
            undo.callback(started[-1].close)
            return started[-1]

        if workers:
            starter = actor_starter(Worker, shared, gpus=gpus, threads=threads)
            elastic = room if engine.workers == -1 else None
            crew.evaluators = start(workers, starter, room=elastic, check=partial(_fault, task, values), lines=True)
        if engine.reconstructors:
            starter = actor_starter(Reconstructor, shared, gpus=gpus, threads=threads)
            crew.reconstructors = start(
                engine.reconstructors, starter, check=lambda _, answer: BlockGradient.fault(answer, values), lines=True
            )
        if engine.generators:
            starter = actor_starter(RowSupply, shared[:1], threads=threads, keeps=True)
            crew.generators = start(engine.generators, starter)
        for pool in started:
            pool.wait_ready()
        undo.pop_all()


def _refuse_mixed_devices(task: Task, engine: EngineConfig) -> None:
    """Evaluators and reconstructors must find the same noise; a generator's depends on the kind of device."""
    if not (task.method.observes and task.noise.source == "generator"):
        return
    if engine.evaluates_on != engine.reconstructs_on:
        raise UserError(
            "noise.source = 'generator': evaluators and reconstructors would draw different noise, one on GPUs and the other"
            " on the CPU; use noise.source = 'table', or give both GPUs: engine.reconstruct = 'workers'"
        )


def _fault(task: Task, values: int, call: Call, answer: Any) -> str | None:
    share: Share = call.arguments[1]
    return Answer.fault(answer, share, task.plan.step(share.step, share.repeat), values)
