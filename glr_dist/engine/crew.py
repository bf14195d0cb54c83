"""The crew of a run: evaluators, reconstructors and generators, in this process or as actors; one verb: `Crew.gradient`.

Rows that a generator made stay in the object store of its node; the driver sees references alone. A reference is a
shortcut: who can't follow it any more makes the rows itself, bit for bit the same.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glr_dist.engine.config import EngineConfig
from glr_dist.engine.evaluator import Evaluator
from glr_dist.engine.placed import Placed, StepResult
from glr_dist.engine.plan import BlockUnits, losses_fault
from glr_dist.engine.reconstructor import BlockGradient, Reconstructor
from glr_dist.engine.rows import RowSupply
from glr_dist.engine.seat import Seat
from glr_dist.engine.task import Task
from glr_dist.errors import UserError
from glr_dist.workers.actor import actor_starter
from glr_dist.workers.cluster import spare_room, workers_available
from glr_dist.workers.parcels import Vector
from glr_dist.workers.pool import Call, LocalPool, Pool, PoolPolicy
from glr_dist.workers.ray_pool import RayPool
from glr_dist.workers.relay import drain

_ROWS, _LOSSES, _GRADIENT = "made", "losses", "gradient"  # verbs of generators, evaluators, reconstructors
_NO_PARAMETERS = Vector(np.empty(0, np.float32))  # for rows that don't depend on the network in training


@dataclass(eq=False)
class Crew:
    """Evaluators, reconstructors and perhaps generators of one task."""

    task: Task
    evaluators: Pool  # their role is an `Evaluator`, or whoever has its verb
    reconstructors: Pool  # their role is a `Reconstructor`
    generators: Pool | None = None  # their role is a `RowSupply`, whose answers stay where they are; None: nobody is
    bytes_up: int = 0  # of losses from evaluator actors so far

    def gradient(self, parameters: np.ndarray, step: int, repeat: int = 0) -> StepResult:
        """Evaluate a step's units and reconstruct the gradient, each block as soon as its losses are in.

        Results are placed by their unit's position and added in the blocks' order, whoever was first. All parameters are
        float32 [D], steps are counted from 0. A ``repeat`` estimates the same gradient from noise of its own.
        """
        placed = Placed(self.task.plan.step(step, repeat))
        if (
            isinstance(self.evaluators, LocalPool)
            and isinstance(self.reconstructors, LocalPool)
            and not self.generators
        ):
            self._in_turn(self.evaluators.role, self.reconstructors.role, parameters, placed)
        else:
            self._by_pools(Vector(parameters), placed)
        return placed.result(self.task.plan.schedule.rows)

    def _in_turn(self, evaluator: Evaluator, reconstructor: Reconstructor, theta: np.ndarray, placed: Placed) -> None:
        """Block by block in this process, without calls."""
        for block in placed.plan.blocks:
            losses = evaluator.losses(theta, block.units) if self.task.method.observes else []
            if losses:
                placed.place(block.positions, losses)
            placed.parts[block.number] = reconstructor.gradient(theta, block, losses)

    def _by_pools(self, theta: Vector, placed: Placed) -> None:
        for block in placed.plan.blocks:
            if self.generators is None:
                self._begin(theta, placed, block)
            else:
                needed = theta if self.task.surrogate is None else _NO_PARAMETERS
                self.generators.submit(Call(block.number, _ROWS, (needed, block.block), near=block.block.shard))
        for call, answer in drain(*self.pools):
            if call.verb == _ROWS:
                placed.rows[call.key] = answer
                self._begin(theta, placed, placed.plan.blocks[call.key])
            elif call.verb == _LOSSES:
                self.bytes_up += sum(losses.nbytes for losses in answer) if self.workers else 0
                for block in placed.place(call.key, answer):
                    self._reconstruct(theta, placed, block)
            else:
                placed.parts[call.key] = answer

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

    def close(self) -> None:
        """Let the actors go."""
        for pool in self.pools:
            pool.close()

    def _begin(self, theta: Vector, placed: Placed, block: BlockUnits) -> None:
        """One block's units: in one call where there are blocks for every worker, else in a call per unit."""
        if not self.task.method.observes:
            self._reconstruct(theta, placed, block)
            return
        whole = len(placed.plan.blocks) >= self.workers
        for positions in [tuple(block.positions)] if whole else [(position,) for position in block.positions]:
            units = [placed.plan.units[position] for position in positions]
            arguments = theta, units, placed.rows.get(block.number)
            self.evaluators.submit(Call(positions, _LOSSES, arguments, near=block.block.shard))

    def _reconstruct(self, theta: Vector, placed: Placed, block: BlockUnits) -> None:
        losses = [placed.losses[position] for position in block.positions] if self.task.method.observes else []
        arguments = theta, block, losses, placed.rows.get(block.number)
        self.reconstructors.submit(Call(block.number, _GRADIENT, arguments, near=block.block.shard))


def crew_here(task: Task, table: np.ndarray | None) -> Crew:
    """Who does it all in this process: evaluator and reconstructor at one seat, since they want the same."""
    seat = Seat(task, table)
    evaluator, reconstructor = Evaluator(task, table, seat=seat), Reconstructor(task, table, seat=seat)
    return Crew(task, LocalPool(evaluator), LocalPool(reconstructor))


def assemble_crew(task: Task, engine: EngineConfig, policy: PoolPolicy = PoolPolicy()) -> Crew:  # noqa: B008  frozen
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
    return crew


def _start_actors(crew: Crew, engine: EngineConfig, policy: PoolPolicy, table: np.ndarray | None) -> None:
    """Put pools of actors into a crew, where the config wants some."""
    import ray

    task, threads, gpus = crew.task, engine.threads, engine.gpus_per_worker
    most = task.plan.units_per_step
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
            starter = actor_starter(Evaluator, shared, gpus=gpus, threads=threads)
            elastic = room if engine.workers == -1 else None
            crew.evaluators = start(
                workers, starter, room=elastic, check=lambda call, answer: losses_fault(call.arguments[1], answer)
            )
        if engine.reconstructors:
            starter = actor_starter(Reconstructor, shared, gpus=gpus, threads=threads)
            values = sum(p.numel() for p in task.trainable.values())
            crew.reconstructors = start(
                engine.reconstructors, starter, check=lambda _, answer: BlockGradient.fault(answer, values)
            )
        if engine.generators:
            starter = actor_starter(RowSupply, shared[:1], threads=threads, keeps=True)
            crew.generators = start(engine.generators, starter)
        for pool in started:
            pool.wait_ready()
        undo.pop_all()


def _refuse_mixed_devices(task: Task, engine: EngineConfig) -> None:
    """Evaluators and reconstructors must find the same noise; a generator's depends on the kind of device."""
    if not (task.method.observes and task.noise.source == "generator" and engine.gpus_per_worker):
        return
    if bool(engine.workers) != bool(engine.reconstructors):
        raise UserError(
            "noise.source = 'generator': evaluators and reconstructors would draw different noise, one on GPUs and the other"
            " on the CPU; use noise.source = 'table', or give both GPUs: --workers 1 or more and --reconstructors 1 or more"
        )
