"""Speed of one training step, loss to parameter update, against slower ways to do the same, all measured in one run.

Every contender is timed in turn, round after round, so that a noisy machine disturbs all of them alike; the figure of each
is its best round. A noisy forward pass is one copy of one example at one site.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from glr_dist.config import Config
from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.parameters import flat_parameters
from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine.checks import make_task
from glr_dist.engine.config import EngineConfig, UnitsConfig
from glr_dist.engine.crew import Crew, assemble_crew
from glr_dist.engine.task import Task
from glr_dist.models.networks import MLP

INPUTS, HIDDEN, CLASSES, BATCH, COPIES = 784, 50, 10, 128, 64
ROUNDS = 5


@dataclasses.dataclass
class Contender:
    """One way to do a step: its name, the step, and the noisy forward passes that a step makes."""

    name: str
    step: Callable[[], None]
    passes: int
    rate: float = 0.0  # noisy forward passes a second, best round


def random_images(rows: int) -> ArrayDataset:
    """Uniform noise of MNIST's shape: speed does not depend on the pixels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((rows, 1, 28, 28), generator=generator)
    return ArrayDataset((x, torch.randint(0, CLASSES, (rows,), generator=generator)), shards=2)


def task_for(config: Config, model: nn.Module) -> Task:
    """The benchmark's training task."""
    return make_task(config, model, random_images(2000), None)


def config_for(rows: int = BATCH, source: str = "table", scheme: str = "layerwise") -> Config:
    """784-50-10, batch 128, K = 64."""
    return Config(
        batch=BATCH,
        noise=NoiseConfig(source=source),
        estimator=EstimatorConfig(copies=COPIES, scheme=scheme),
        units=UnitsConfig(rows=rows),
    )


def trainer_step(crew: Crew, model: nn.Module) -> Callable[[], None]:
    """A whole step as the driver does it: units, losses, reconstruction, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    step = 0

    def run() -> None:
        nonlocal step
        gradient = torch.from_numpy(crew.gradient(flat_parameters(model).numpy(), step).gradient)
        parts = gradient.split([p.numel() for p in model.parameters()])
        for p, part in zip(model.parameters(), parts, strict=True):
            p.grad = part.view_as(p).clone()
        optimizer.step()
        step += 1

    return run


def outer_product_step(model: MLP, copies: int, at_once: bool) -> Callable[[], None]:
    """The straightforward way: every copy has its own outer product of input and score, ``ni,nj->nij``, then the mean.

    Layerwise, Gaussian, unconditioned, without a baseline.

    Args:
        model: two Linear layers with Heaviside units between them.
        copies: K.
        at_once: all copies are rows of one batch, as in the original method's code; else a loop over the copies, which
            needs less memory.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((BATCH, INPUTS), generator=generator)
    labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    if at_once:
        x, labels = x.repeat(copies, 1), labels.repeat(copies)
    first, second = model[1], model[3]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def gradients() -> list[Tensor]:
        z1 = first(x)
        hidden = (z1 >= 0).float()
        z2 = second(hidden)
        e1, e2 = torch.randn_like(z1), torch.randn_like(z2)
        d1 = losses(second((z1 + e1 >= 0).float())).unsqueeze(1) * e1
        d2 = losses(z2 + e2).unsqueeze(1) * e2
        outer = [torch.einsum("ni,nj->nij", d, inputs).mean(0) for d, inputs in ((d1, x), (d2, hidden))]
        return [outer[0], d1.mean(0), outer[1], d2.mean(0)]

    def losses(logits: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    @torch.no_grad()
    def run() -> None:
        rounds = [gradients() for _ in range(1 if at_once else copies)]
        for p, parts in zip(model.parameters(), zip(*rounds, strict=True), strict=True):
            p.grad = torch.stack(parts).mean(0)
        optimizer.step()

    return run


def measure(contenders: list[Contender], seconds: float) -> None:
    """Time every contender for ``seconds`` in each of ROUNDS rounds, in turn; keep the best."""
    for contender in contenders:
        contender.step()
        contender.step()
    for _ in range(ROUNDS):
        for contender in contenders:
            steps, started = 0, time.perf_counter()
            while steps == 0 or time.perf_counter() - started < seconds:
                contender.step()
                steps += 1
            rate = steps * contender.passes / (time.perf_counter() - started)
            contender.rate = max(contender.rate, rate)


def in_process_contenders() -> list[Contender]:
    """One process, one thread."""
    contenders = []
    for name, config, fold in (
        ("layerwise", config_for(), True),
        ("layerwise, vmap instead of folded copies", config_for(), False),
        ("layerwise, generator instead of table", config_for(source="generator"), True),
        ("layerwise, units of 32 rows", config_for(rows=32), True),
        ("joint", config_for(scheme="joint"), True),
    ):
        model = MLP(INPUTS, (HIDDEN,), CLASSES, "heaviside")
        task = dataclasses.replace(task_for(config, model), fold=fold)
        crew = assemble_crew(task, EngineConfig(workers=0))
        contenders.append(Contender(name, trainer_step(crew, model), task.plan.losses_per_step))
    for name, at_once in (("outer products, a loop over copies", False), ("outer products, all copies at once", True)):
        model = MLP(INPUTS, (HIDDEN,), CLASSES, "heaviside")
        contenders.append(Contender(name, outer_product_step(model, COPIES, at_once), 2 * BATCH * COPIES))
    return contenders


def ray_contenders(workers: int) -> tuple[list[Contender], list[Crew]]:
    """1 and more Ray evaluators, with the driver reconstructing."""
    contenders, crews = [], []
    for count in sorted({1, workers}):
        config = config_for(rows=BATCH // 2)
        model = MLP(INPUTS, (HIDDEN,), CLASSES, "heaviside")
        task = task_for(config, model)
        crew = assemble_crew(task, EngineConfig(workers=count))
        crews.append(crew)
        name = f"Ray, {count} evaluator{'s' if count > 1 else ''}"
        contenders.append(Contender(name, trainer_step(crew, model), task.plan.losses_per_step))
    return contenders, crews


@click.command()
@click.option("--seconds", default=1.0, show_default=True, help="Seconds per contender and round.")
@click.option("--ray/--no-ray", "with_ray", default=True, help="Measure Ray evaluators too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(seconds: float, with_ray: bool, as_json: bool) -> None:
    """Measure 784-50-10 Heaviside units, batch 128, K = 64."""
    torch.set_num_threads(1)
    contenders = in_process_contenders()
    measure(contenders, seconds)
    base, slow = contenders[0].rate, contenders[-1].rate
    if with_ray:
        import ray

        ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)  # both crews at once
        extra, crews = ray_contenders(min(os.cpu_count() or 1, 2))
        measure(extra, seconds)
        contenders += extra
        for crew in crews:
            crew.close()
        ray.shutdown()
    if as_json:
        rates = {contender.name: contender.rate for contender in contenders}
        print(json.dumps({"noisy_forwards_per_second": rates, "against_outer_products": base / slow}))
        return
    table = Table("", "noisy forward passes/s", "of layerwise", "of outer products", title=main.help)
    for contender in contenders:
        rate = contender.rate
        table.add_row(contender.name, f"{rate:,.0f}", f"{rate / base:.2f}", f"{rate / slow:,.0f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
