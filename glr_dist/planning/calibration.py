"""What a step takes here, by doing some."""

from __future__ import annotations

import time
from statistics import median

from glr_dist.config import Config
from glr_dist.core.threads import fixed_threads
from glr_dist.engine.assembly import crew_here
from glr_dist.engine.checks import set_up
from glr_dist.planning.forecast import Work

_WARM, _LEAST = 3, 5  # steps that are not counted, and those that are


def measured_work(config: Config, seconds: float = 3.0) -> Work:
    """A step's work in this process, the median of some; they take about so many seconds, and lead nowhere.

    Raises:
        UserError: for a config that can't be trained.
    """
    trainer, task = set_up(config, None, None, None)
    crew = crew_here(task, task.make_table())
    phases, rest = [], []
    with fixed_threads(config.engine.threads):
        until = time.monotonic() + seconds
        while trainer.step < _WARM + _LEAST or time.monotonic() < until:
            began = time.perf_counter()
            result = trainer.advance(crew)
            took = time.perf_counter() - began
            phases.append(result.phases)
            rest.append(took - result.phases.evaluation - result.phases.reconstruction)
    plan = task.plan
    return Work(
        evaluation=median(each.evaluation for each in phases[_WARM:]),
        reconstruction=median(each.reconstruction for each in phases[_WARM:]),
        driver=median(rest[_WARM:]),
        blocks=plan.schedule.blocks_per_step,
        units=plan.units_per_step // plan.schedule.blocks_per_step,
        parameters=trainer.theta().nbytes,
        gradient=4 * sum(p.numel() for p in task.trainable.values()),
        losses=4 * plan.losses_per_step,
    )
