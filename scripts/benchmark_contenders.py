"""Ways to a gradient from losses alone, as the engine does them in this process or on Ray: copies and flips.

A task is put together here and not by `glr_dist.engine.checks`, so that gradients are timed where neither Ray nor pyarrow is
installed; only whole runs, which write files, need pyarrow.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from benchmark_timing import Contender, measure
from torch import Tensor, nn

import glr_dist
from glr_dist.config import Config, parse_config
from glr_dist.core.losses import Loss, named_loss
from glr_dist.core.parameters import flat_parameters, trainable_parameters
from glr_dist.core.probing import find_sites
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.batches import BlockSchedule
from glr_dist.data.source import DataSource
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.crew import Crew
from glr_dist.engine.plan import Plan
from glr_dist.engine.task import Task
from glr_dist.methods.method import named_method
from glr_dist.models.networks import MLP

INPUTS, CLASSES, BATCH = 784, 10, 128
Settings = Mapping[str, Any]  # dotted keys of a config
OURS: dict[str, Settings] = {  # by name: scheme and number of losses
    "copies, layerwise, K = 32": {"estimator.scheme": "layerwise", "estimator.copies": 32},
    "copies, layerwise, K = 64": {"estimator.scheme": "layerwise", "estimator.copies": 64},
    "copies, joint, K = 64": {"estimator.scheme": "joint", "estimator.copies": 64},
    "joint flips, M = 1": {"estimator.scheme": "joint-flips"},
    "flips, M = 1, general path, any loss": {"estimator.scheme": "flips"},
    "flips, M = 1, rank one, any loss": {"estimator.scheme": "flips"},
    "flips, M = 1, cross-entropy by matrix products": {"estimator.scheme": "flips"},
}
ON_RAY = ("copies, layerwise, K = 64", "flips, M = 1, cross-entropy by matrix products")


def any_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy as a function that nobody knows anything of.

    Not torch's own: for 10 classes its log-softmax takes 10 times as long as this, three back-propagations for the flips of
    784-50-10 alone.
    """
    return logits.logsumexp(-1) - logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def random_images(rows: int = 2000) -> ArrayDataset:
    """Uniform noise of MNIST's shape: speed does not depend on the pixels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (rows, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return ArrayDataset((x, torch.arange(rows) % CLASSES), shards=2)


def network(hidden: int, unit: str = "heaviside") -> MLP:
    """784-N-10, always with the same parameters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP(INPUTS, (hidden,), CLASSES, unit)


def config_of(settings: Settings) -> Config:
    """A run in this process with some keys replaced: batch 128 in one block, nothing validated or saved on the way."""
    keys = {"batch": BATCH, "steps": 10**6, "units.rows": BATCH, "engine.workers": 0, "journal": "on"}
    return parse_config("", keys | {"validate_every": 0, "checkpoint_every": 0} | dict(settings))


def task_of(
    config: Config, model: nn.Module, data: DataSource, loss: Loss | None = None, *, quick: bool = True
) -> Task:
    """What a run of that config trains; ``quick``: turned bits are evaluated from where they enter a reader."""
    sites = find_sites(model, data.shape, config.estimator.sites)
    if not quick:
        sites = [dataclasses.replace(site, reader=None) for site in sites]
    method = named_method(config.method)
    schedule = BlockSchedule(data.sizes("train"), batch=config.batch, rows=config.units.rows, seed=config.seed)
    parameters = sum(p.numel() for p in trainable_parameters(model, sites).values())
    kinds = method.kinds(sites, parameters, config.estimator)
    return Task(
        model=model,
        sites=tuple(sites),
        fold=True,  # the copies of these networks can be rows of a batch
        method=method,
        loss=loss or named_loss(config.loss),
        estimator=config.estimator,
        noise=config.noise,
        plan=Plan.of(kinds, schedule, config.units, seed=config.seed, observes=method.observes),
        data=data,
        augment=config.augment,
        surrogate=None,
    )


def gradient_step(crew: Crew) -> Callable[[], None]:
    """Losses, reconstruction, gradient, with fresh noise and other parameters each time, as a training has them.

    The batch is always the same, as back-propagation's is: what it takes to fetch rows shows in the whole step.
    """
    theta = [flat_parameters(crew.task.model).numpy() * np.float32(factor) for factor in (1.0, 1.0001)]
    for each in theta:
        each.flags.writeable = False  # as the trainer hands them over
    repeats = itertools.count(1)

    def run() -> None:
        repeat = next(repeats)
        crew.gradient(theta[repeat % 2], 0, repeat)

    return run


def training_loop(config: Config, hidden: int, data: DataSource, loss: Loss | None) -> Callable[[float], float]:
    """A whole run, all that `glr_dist.train` does from the end of its first step to the end of its last."""

    def run(seconds: float) -> float:
        ends: list[float] = []

        def show(progress: object) -> None:
            ends.append(time.process_time())
            if len(ends) > 1 and ends[-1] - ends[0] >= seconds:
                raise KeyboardInterrupt

        with tempfile.TemporaryDirectory(prefix="glr_dist_benchmark_") as folder, suppress(KeyboardInterrupt):
            glr_dist.train(
                network(hidden), data, config, loss=loss, run_dir=f"{folder}/run", show=show, say=lambda line: None
            )
        return 1000 * (ends[-1] - ends[0]) / (len(ends) - 1)

    return run


def our_contenders(hidden: int, device: str = "cpu") -> list[Contender]:
    """In this process, on one core; or on a GPU, timed by the clock on the wall."""
    data, contenders = random_images(), []
    with_runs = importlib.util.find_spec("pyarrow") is not None
    for name, settings in OURS.items():
        config, quick = config_of(settings), "general" not in name
        loss = any_loss if "any loss" in name else None
        task = task_of(config, network(hidden), data, loss, quick=quick)
        contender = Contender(name=name, passes=task.plan.noisy_forwards_per_step, wall=device != "cpu")
        contender.gradient = gradient_step(assemble_crew(task, EngineConfig(workers=0, device=device)))
        if with_runs and quick and not contender.wall:  # a run takes the quick way wherever there is one
            contender.loop = training_loop(config, hidden, data, loss)
        contenders.append(contender)
    return contenders


def measured_on_ray(hidden: int, seconds: float) -> list[Contender]:
    """1 and 2 evaluators on Ray, the driver reconstructs; units of half a batch. One crew after the other has the cores."""
    from glr_dist.workers.cluster import connected

    data, contenders = random_images(), []
    with connected():
        for workers in sorted({1, min(os.cpu_count() or 1, 2)}):
            for name in ON_RAY:
                task = task_of(config_of({**OURS[name], "units.rows": BATCH // 2}), network(hidden), data)
                label = f"{name}; Ray, {workers} evaluator{'s' * (workers > 1)}"
                contenders.append(Contender(name=label, passes=task.plan.noisy_forwards_per_step, wall=True))
                crew = assemble_crew(task, EngineConfig(workers=workers))
                contenders[-1].gradient = gradient_step(crew)
                measure(contenders[-1:], seconds, rounds=3)
                crew.close()
    return contenders
