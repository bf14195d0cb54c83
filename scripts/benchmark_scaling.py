"""How a step's time falls with workers: presets in large batches, on images that need no file; 0, 1, 2, 4 ... all cores.

Each number of workers is timed in turn with one process, round after round, and with both placements of the reconstruction;
beside it stands what `glr-dist plan` says, from the step in that process. Times are those of the clock on the wall.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from statistics import median
from typing import Any

from benchmark_contenders import random_images, task_of

from glr_dist.config import load_config
from glr_dist.core.parameters import flat_parameters
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.crew import Crew
from glr_dist.engine.handover import cores
from glr_dist.engine.phases import Phases
from glr_dist.engine.task import Task
from glr_dist.models.spec import build_model
from glr_dist.planning.forecast import DRIVER, WORKERS, Forecast, Link, Work, alone, counts, forecast
from glr_dist.workers.choice import Choice

ROWS = 8000  # images that there are
_WARM, _LEAST = 2, 3  # steps that are not counted, and those that are at least
_ROUNDS = 3
CASES: dict[str, Mapping[str, Any]] = {  # 16 blocks each
    "mnist-wide": {"batch": 2048, "units.rows": 128},
    "mnist-conv": {"batch": 1024, "units.rows": 64},
    "mnist-certified": {"batch": 1024, "units.rows": 64},
}


def scaling(seconds: float, with_ray: bool, cases: Mapping[str, Mapping[str, Any]] = CASES) -> dict[str, Any]:
    """A table for each case."""
    tables: dict[str, Any] = {}
    data = random_images(ROWS)
    tasks: dict[str, Task] = {}
    for preset, keys in cases.items():
        config = load_config(preset, dict(keys))
        task = task_of(config, build_model(config.model, data.shape, len(data.classes), config.seed), data)
        title = f"{preset}, batch {config.batch} in {task.plan.schedule.blocks_per_step} blocks"
        tasks[title] = task
        work = work_of(task, seconds)
        tables[title] = [row(task, alone(work), work.alone, work.alone)]
    if with_ray and importlib.util.find_spec("ray") is not None:
        on_ray(tables, tasks, seconds)
    return tables


def on_ray(tables: dict[str, Any], tasks: Mapping[str, Task], seconds: float) -> None:
    """Add a row for each number of workers and placement."""
    from glr_dist.planning.link import local_link
    from glr_dist.workers.cluster import connected

    link = local_link()
    with connected():
        for title, task in tasks.items():
            for workers in counts(cores())[1:]:
                tables[title] += beside(task, link, workers, seconds)


def beside(task: Task, link: Link, workers: int, seconds: float) -> list[dict[str, Any]]:
    """The rows of one number of workers; one process has its turn in each round."""
    crew = assemble_crew(task, EngineConfig(workers=workers))
    took: dict[str, list[float]] = {DRIVER: [], WORKERS: []}
    works = []
    for _ in range(_ROUNDS):
        works.append(work_of(task, seconds / _ROUNDS))
        for way in (DRIVER, WORKERS):
            crew.choice = Choice((way,))
            took[way].append(median(seconds_of for _, seconds_of in steps(crew, seconds / _ROUNDS)))
    crew.close()
    work = min(works, key=lambda each: each.alone)
    rows = []
    for way in (DRIVER, WORKERS):
        rows.append(row(task, forecast(work, link, workers, way), min(took[way]), work.alone))
    return rows


def row(task: Task, told: Forecast, took: float, one_process: float) -> dict[str, Any]:
    """A line of the table; ``one_process``: seconds that it took in the same rounds."""
    return {
        "workers": told.workers or "in this process",
        "reconstruct": told.placement,
        "ms a step": 1000 * took,
        "of one process, ms": 1000 * one_process,
        "times as fast": one_process / took,
        "million passes a second": task.plan.noisy_forwards_per_step / took / 1e6,
        "forecast, ms": 1000 * told.seconds,
    }


def work_of(task: Task, seconds: float) -> Work:
    """A step's work in this process; nothing is optimized or written down."""
    crew = assemble_crew(task, EngineConfig(workers=0))
    found, rest = [], []
    for phases, took in steps(crew, seconds):
        found.append(phases)
        rest.append(took - phases.evaluation - phases.reconstruction)
    plan = task.plan
    return Work(
        evaluation=median(each.evaluation for each in found),
        reconstruction=median(each.reconstruction for each in found),
        driver=median(rest),
        blocks=plan.schedule.blocks_per_step,
        units=plan.units_per_step // plan.schedule.blocks_per_step,
        parameters=flat_parameters(task.model).numpy().nbytes,
        gradient=4 * sum(p.numel() for p in task.trainable.values()),
        losses=4 * plan.losses_per_step,
    )


def steps(crew: Crew, seconds: float) -> list[tuple[Phases, float]]:
    """Phases and seconds of some steps, all at the same parameters."""
    theta = flat_parameters(crew.task.model).numpy()
    theta.flags.writeable = False
    found: list[tuple[Phases, float]] = []
    number, until = 0, time.monotonic() + seconds
    while len(found) < _LEAST or time.monotonic() < until:
        began = time.perf_counter()
        result = crew.gradient(theta, number)
        number += 1
        if number > _WARM:
            found.append((result.phases, time.perf_counter() - began))
    return found
