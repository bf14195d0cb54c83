"""The crew of a run: evaluators, reconstructors and generators, in this process or as actors; one verb: `Crew.gradient`."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from glr_dist.engine.actors import actor_starter, arrived, parcels, role_function
from glr_dist.engine.generation import Generation, reference_fault
from glr_dist.engine.plan import BlockUnits, StepPlan, Unit, losses_fault
from glr_dist.engine.reconstructor import BlockGradient
from glr_dist.engine.rows import BlockRows
from glr_dist.engine.task import Task
from glr_dist.errors import UserError
from glr_dist.workers.cluster import spare_room, workers_available
from glr_dist.workers.pool import Call, LocalPool, Pool, RayPool

_START_SECONDS = 120.0


@dataclass
class Traffic:
    """Bytes to and from evaluator actors so far: with every call the parameters and its units down, its losses up."""

    up: int = 0
    down: int = 0


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


class Crew:
    """Evaluators, reconstructors and perhaps generators of one task."""

    def __init__(self, task: Task, evaluators: Pool, reconstructors: Pool, generators: RayPool | None = None) -> None:
        """Take over the pools.

        Args:
            task: what is trained.
            evaluators: pool of role ``evaluator``.
            reconstructors: pool of role ``reconstructor``.
            generators: pool of role ``generator``; None: rows are made where they are needed.
        """
        self.task = task
        self._pools = [pool for pool in (evaluators, reconstructors, generators) if pool is not None]
        self.evaluators = evaluators
        self.reconstructors = reconstructors
        self.remote = isinstance(reconstructors, RayPool)
        self.traffic = Traffic()
        self.generation = Generation(task, generators)

    def gradient(self, parameters: np.ndarray, step: int) -> StepResult:
        """Evaluate a step's units and reconstruct the gradient, each block as soon as its losses are in.

        Results are placed by their unit's position and added in the blocks' order, whoever was first.

        Args:
            parameters: float32 vector of all parameters.
            step: counted from 0.
        """
        plan = self.task.plan.step(step)
        pieces = parcels(parameters) if self.actors else []
        parts: dict[int, BlockGradient] = {}
        made: dict[int, Any] = {}
        losses: list[np.ndarray] = []
        if self.task.method.observes:
            losses = [_MISSING] * len(plan.units)
            for number, rows in self.generation.of_step(step, pieces):
                made[number] = rows
                self._send_units(parameters, pieces, plan.blocks[number], rows, len(plan.blocks) >= self.workers)
            owner = {position: block for block in plan.blocks for position in block.positions}
            for positions, returned in self.evaluators.drain():
                for position, value in zip(positions, returned, strict=True):
                    losses[position] = value
                    self.traffic.up += value.nbytes if self.workers else 0
                block = owner[positions[0]]
                if all(losses[p] is not _MISSING for p in block.positions):
                    mine = block.block, block.units, [losses[p] for p in block.positions], made[block.number]
                    self._send(self.reconstructors, block.number, parameters, pieces, mine, block.block.shard)
                    if not self.remote:  # while the evaluators are at the other blocks
                        parts |= dict(self.reconstructors.drain())
        else:
            for number, rows in self.generation.of_step(step, pieces):
                block = plan.blocks[number]
                mine = block.block, block.units, [], rows
                self._send(self.reconstructors, number, parameters, pieces, mine, block.block.shard)
        parts |= dict(self.reconstructors.drain())
        total = parts[0].values.copy()
        for number in range(1, len(plan.blocks)):
            total += parts[number].values
        batch = len(plan.blocks) * self.task.plan.schedule.rows
        total /= np.float32(batch)
        return StepResult(total, plan.units, losses, _mean_loss(plan, losses, parts, batch))

    @property
    def workers(self) -> int:
        """Evaluator actors; 0 in-process."""
        return self.evaluators.size if isinstance(self.evaluators, RayPool) else 0

    @property
    def actors(self) -> list[RayPool]:
        """The pools that are made of actors: evaluators first."""
        return [pool for pool in self._pools if isinstance(pool, RayPool)]

    @property
    def workers_lost(self) -> int:
        """Actors that were replaced: they had died, or answered what cannot be."""
        return sum(pool.deaths for pool in self.actors)

    def close(self) -> None:
        """Let the actors go."""
        for pool in self._pools:
            pool.close()

    def _send_units(
        self, parameters: np.ndarray, pieces: Sequence[Any], block: BlockUnits, rows: Any, whole: bool
    ) -> None:
        """One block's units: in one call where there are blocks for every worker, else in a call per unit."""
        for positions in [tuple(block.positions)] if whole else [(p,) for p in block.positions]:
            mine = [block.units[p - block.positions.start] for p in positions]
            self._send(self.evaluators, positions, parameters, pieces, (mine, rows), block.block.shard)
            if self.workers:
                self.traffic.down += parameters.nbytes + len(pickle.dumps(mine))

    def _send(
        self,
        pool: Pool,
        key: Any,
        parameters: np.ndarray,
        pieces: Sequence[Any],
        arguments: tuple[Any, ...],
        shard: int,
    ) -> None:
        *others, rows = arguments
        if isinstance(pool, RayPool):
            pool.submit(Call(key, (arguments, *pieces), shard))
        else:
            pool.submit(Call(key, (parameters, *others, arrived(rows)), shard))


def _mean_loss(
    plan: StepPlan, losses: Sequence[np.ndarray], parts: Mapping[int, BlockGradient], batch: int
) -> float | None:
    """Over all that evaluators sent, or over what the reconstructors saw by themselves."""
    if losses:
        return sum(float(value.sum(dtype=np.float64)) for value in losses) / sum(value.size for value in losses)
    seen = [loss for block in plan.blocks if (loss := parts[block.number].loss) is not None]
    return sum(seen) / batch if seen else None


_MISSING = np.empty(0, np.float32)


def assemble_crew(
    task: Task,
    *,
    workers: int,
    reconstructors: int,
    gpus: float,
    threads: int,
    in_flight: int,
    generators: int = 0,
) -> Crew:
    """Start the crew that the config asks for; Ray must be connected if there are actors in it.

    Args:
        task: what is trained.
        workers: evaluators; 0 in this process, -1 as many as there is room for.
        reconstructors: reconstructor actors; 0 in this process.
        gpus: GPUs of each evaluator and reconstructor.
        threads: torch threads of each actor.
        in_flight: calls that may wait at one actor.
        generators: generator actors; 0: rows are made where they are needed.

    Raises:
        UserError: when the cluster has not what is asked for, actors don't start in time, or the noise source
            would differ between their devices.
    """
    if not task.method.observes:
        workers = 0
    _refuse_mixed_devices(task, on_gpus={bool(gpus and workers), bool(gpus and reconstructors)})
    table = task.make_table()
    if workers == 0 and reconstructors == 0 and generators == 0:
        return Crew(task, *_local_pools(task, table))
    import ray

    most = task.plan.units_per_step
    elastic = workers == -1
    workers = workers_available(workers, reconstructors, generators=generators, threads=threads, gpus=gpus, most=most)
    problem_ref, table_ref = ray.put(task), None if table is None else ray.put(table)
    local_evaluators, local_reconstructors = _local_pools(task, table)
    pools: list[Pool] = []  # evaluators, reconstructors
    size = sum(p.numel() for p in task.trainable.values())
    for role, actors, local, check in (
        ("evaluator", workers, local_evaluators, lambda arguments, answer: losses_fault(arguments[0][0], answer)),
        ("reconstructor", reconstructors, local_reconstructors, lambda _, answer: BlockGradient.fault(answer, size)),
    ):
        start = actor_starter(role, problem_ref, table_ref, gpus=gpus, threads=threads)
        room = partial(_room, pools, threads, gpus, most) if elastic and role == "evaluator" else None
        pools.append(RayPool(start, actors, in_flight, room, check) if actors else local)
    start = actor_starter("generator", problem_ref, None, gpus=0.0, threads=threads)
    made = (
        RayPool(start, generators, in_flight, None, lambda _, answer: reference_fault(answer)) if generators else None
    )
    crew = Crew(task, pools[0], pools[1], made)
    try:
        for pool in crew.actors:
            pool.wait_ready(_START_SECONDS)
    except BaseException:
        crew.close()
        raise
    return crew


def _refuse_mixed_devices(task: Task, on_gpus: set[bool]) -> None:
    """Evaluators and reconstructors must find the same noise; a generator's depends on the kind of device."""
    if task.method.observes and task.noise.source == "generator" and len(on_gpus) > 1:
        raise UserError(
            "noise.source = 'generator': evaluators and reconstructors would draw different noise, one on GPUs and the other"
            " on the CPU; use noise.source = 'table', or give both GPUs: --workers 1 or more and --reconstructors 1 or more"
        )


def _room(pools: Sequence[Pool], threads: int, gpus: float, most: int) -> int:
    """How many evaluators more there is room for, in the cluster and in the work."""
    evaluators = pools[0]
    assert isinstance(evaluators, RayPool)
    return max(0, min(spare_room(threads=threads, gpus=gpus), most - evaluators.size))


def _local_pools(task: Task, table: np.ndarray | None) -> tuple[LocalPool, LocalPool]:
    rows = BlockRows(task)
    return (
        LocalPool(role_function("evaluator", task, table, "cpu", rows)),
        LocalPool(role_function("reconstructor", task, table, "cpu", rows)),
    )
