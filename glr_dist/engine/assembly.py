"""Assembling a crew, as the config asks for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from glr_dist.engine.config import EngineConfig
from glr_dist.engine.crew import DRIVER, HERE, WORKERS, Crew
from glr_dist.engine.handover import Handover
from glr_dist.engine.reconstructor import BlockGradient, Reconstructor
from glr_dist.engine.rows import RowSupply
from glr_dist.engine.task import Task
from glr_dist.engine.worker import Answer, LossSource, Share, Worker
from glr_dist.errors import UserError
from glr_dist.workers.actor import actor_starter
from glr_dist.workers.choice import Choice
from glr_dist.workers.cluster import elsewhere_named, spare_room, workers_available
from glr_dist.workers.pool import Call, LocalPool, PoolPolicy
from glr_dist.workers.ray_pool import RayPool


def crew_here(task: Task, table: np.ndarray | None, device: str = "cpu", evaluator: LossSource | None = None) -> Crew:
    """Who does it all in this process, with this evaluator in the place of its own."""
    worker = Worker(task, table, device, evaluator)
    return Crew(task, LocalPool(worker), LocalPool(worker.reconstructor), here=worker)


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
    if not task.method.observes or engine.alone_on_gpu:
        engine = replace(engine, workers=0)
    _refuse_mixed_devices(task, engine)
    table = task.make_table()
    crew = crew_here(task, table, "cuda" if engine.alone_on_gpu else "cpu")
    policy = replace(policy, in_flight=engine.in_flight)
    if comes_later(task, engine):
        crew.coming, crew.ways_with_workers = _handover(task, engine, policy, table), _ways(engine)
        crew.choice = Choice((HERE,), crew.chosen)
    elif engine.workers or engine.reconstructors or engine.generators:
        _start_actors(crew, engine, policy, table)
        crew.choice, crew.spread = Choice(_ways(engine), crew.chosen), not engine.gpus_per_worker
    return crew


def _ways(engine: EngineConfig) -> tuple[str, ...]:
    """How a step can be done with actors, without a changed bit."""
    if not engine.workers or engine.reconstructors or engine.reconstruct == "driver":
        return (DRIVER,)
    if engine.gpus_per_worker:  # the driver has none, and would come to other bits
        return (WORKERS,)
    ways = (WORKERS,) if engine.reconstruct == "workers" else (DRIVER, WORKERS)
    return (*ways, HERE) if engine.workers == -1 and not engine.generators else ways


def comes_later(task: Task, engine: EngineConfig) -> bool:
    """Whether a run begins in this process, and workers may come later: they would be of a Ray that is started for it."""
    plain = engine.workers == -1 and task.method.observes
    others = engine.reconstructors or engine.generators or engine.evaluates_on == "cuda"
    return plain and not others and not elsewhere_named()


def _handover(task: Task, engine: EngineConfig, policy: PoolPolicy, table: np.ndarray | None) -> Handover:
    """What starts workers beside the training, if that pays."""
    values = sum(p.numel() for p in task.trainable.values())
    nbytes = 4 * (2 * values + task.plan.losses_per_step // task.plan.schedule.blocks_per_step)

    def start(size: int) -> RayPool:
        starter = actor_starter(Worker, _shared(task, table, "cpu"), threads=engine.threads)
        return RayPool(starter, size, policy, check=partial(_fault, task, values), lines=True)

    blocks = task.plan.schedule.blocks_per_step
    return Handover(start, blocks=blocks, threads=engine.threads, nbytes=nbytes)


def _shared(task: Task, table: np.ndarray | None, device: str) -> tuple[Any, ...]:
    """The arguments of a worker or reconstructor, the large ones stored once for all."""
    import ray

    return ray.put(task), None if table is None else ray.put(table), device


def _start_actors(crew: Crew, engine: EngineConfig, policy: PoolPolicy, table: np.ndarray | None) -> None:
    """Put pools of actors into a crew, where the config wants some."""
    task, threads, gpus = crew.task, engine.threads, engine.gpus_per_worker
    most = task.plan.units_per_step
    values = sum(p.numel() for p in task.trainable.values())
    workers = workers_available(
        engine.workers, engine.reconstructors, generators=engine.generators, threads=threads, gpus=gpus, most=most
    )
    shared = _shared(task, table, "cuda" if gpus else "cpu")

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
