"""What losses are worth: the error of estimated error signals, flips beside copies, at equal losses and at equal times.

A network 784-N-10 in mid-training, early and later, and 64 images of its training. The error signal D [R, N] is the estimate
of d E[loss] / d z at the hidden units; the gradient of the layer's weights is ``D^T X / R``, so the engine's own gradients
give it back wherever the R images X are linearly independent. The relative squared error of D is taken against a reference
of 100,000 copies.

Shapes: R rows (images), N hidden units, D trained parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_contenders import CLASSES, INPUTS, Settings, config_of, gradient_step, network, task_of
from benchmark_timing import repeated
from torch import Tensor

from glr_dist.core.parameters import flat_parameters, shaped
from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.crew import Crew
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP

ROWS, STAGES = 64, (300, 1000)  # steps of training before each look
REFERENCE, PIECE = 100_000, 2_000  # copies: of the reference, and of each estimate that it is the mean of
_TIMED, _ROUNDS = 0.15, 5  # seconds for each estimator in each round
_HIDDEN_LAYER = "1"  # its name in the network
_IDX_HEADERS = {"train-images-idx3-ubyte": 16, "train-labels-idx1-ubyte": 8}  # bytes


@dataclass(kw_only=True)
class Measured:
    """An estimator: its losses for one image, its relative squared error, and how long a step takes with it."""

    name: str
    flips: bool
    crew: Crew
    losses: int
    error: float = 0.0
    ms: float = float("inf")


def errors(hidden: int, data_root: str | None) -> dict[str, list[dict[str, Any]]]:
    """The tables of a network 784-N-10 at its stages, by their titles."""
    images, labels, name = training_images(data_root)
    scale = 0.5 if hidden <= 100 else 0.7  # as in the presets mnist-2021-threshold and mnist-wide
    few = images[:ROWS] + torch.rand((ROWS, INPUTS), generator=torch.Generator().manual_seed(1)) / 16
    data = ArrayDataset((few, labels[:ROWS]), shards=1, validation=0.0)
    tables = {}
    for steps, model in training(network(hidden), ArrayDataset((images, labels)), scale):
        title = f"{INPUTS}-{hidden}-{CLASSES} after {steps} steps on {name}: error signal of {ROWS} images"
        tables[title] = as_rows(compared(model, hidden, data, scale))
    return tables


def compared(model: MLP, hidden: int, data: ArrayDataset, scale: float) -> list[Measured]:
    """Flips and copies at the network's parameters, measured."""

    def crew(**settings: Any) -> Crew:
        return estimator(model, data, scale, {f"estimator.{key}": value for key, value in settings.items()})

    truth = reference(model, data, scale)
    found = []
    for draws in (1, 4):
        way = crew(scheme="flips", base_draws=draws)
        found.append(Measured(name=f"flips, M = {draws}", flips=True, crew=way, losses=draws * (1 + hidden)))
    for copies in sorted({16, 64, 256, 1024, hidden + 2 - hidden % 2}):
        found.append(Measured(name=f"copies, K = {copies}", flips=False, crew=crew(copies=copies), losses=copies))
    for one in found:
        signals = list(error_signals(one.crew, range(1, 1 + max(5, 4096 // one.losses))))
        one.error = float(np.mean([((signal - truth) ** 2).sum() for signal in signals]) / (truth**2).sum())
    time_in_turn(found)
    return found


def estimator(model: MLP, data: ArrayDataset, scale: float, settings: Settings) -> Crew:
    """Who estimates the hidden layer's gradient, from all rows of the data in one block.

    Copies do it for that layer alone. Flips need the read-out among the trained layers to be evaluated the quick way, so
    they have the fewest copies there that can be, whose time counts against them.
    """
    rows, flips = data.count("train"), settings.get("estimator.scheme") == "flips"
    keys: dict[str, Any] = {"noise.scale": scale, "batch": rows, "units.rows": rows}
    keys |= {"estimator.copies": 4} if flips else {"estimator.sites": [_HIDDEN_LAYER]}
    return assemble_crew(task_of(config_of(keys | dict(settings)), model, data), EngineConfig(workers=0))


def reference(model: MLP, data: ArrayDataset, scale: float) -> np.ndarray:
    """The mean of 100,000 copies' error signals, [R, N], from fresh noise and none of a table's."""
    crew = estimator(model, data, scale, {"estimator.copies": PIECE, "noise.source": "generator"})
    total = sum(error_signals(crew, range(REFERENCE // PIECE)))
    assert isinstance(total, np.ndarray)
    return total / (REFERENCE // PIECE)


def error_signals(crew: Crew, repeats: Sequence[int]) -> list[np.ndarray]:
    """Estimates of the error signal of the first step's rows, [R, N] each, in their order."""
    task = crew.task
    block = task.plan.step(0).blocks[0].block
    x = task.rows(block)[0].double().numpy()  # [R, 784]
    inverse = np.linalg.pinv(x)
    theta, parameters = flat_parameters(task.model).numpy(), list(task.trainable.values())
    found = []
    for repeat in repeats:
        gradient = torch.from_numpy(crew.gradient(theta, 0, repeat).gradient)
        weights = shaped(gradient, parameters)[0].double().numpy()  # [N, 784]
        found.append((len(x) * weights @ inverse).T)
    return found


def training(model: MLP, data: ArrayDataset, scale: float) -> Iterator[tuple[int, MLP]]:
    """(steps, the network after so many of them), by flips and AdamW."""
    config = config_of({"estimator.scheme": "flips", "noise.scale": scale})
    crew = assemble_crew(task_of(config, model, data), EngineConfig(workers=0))
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.1)
    for step in range(max(STAGES)):
        gradient = torch.from_numpy(crew.gradient(flat_parameters(model).numpy(), step).gradient)
        for p, part in zip(parameters, shaped(gradient, parameters), strict=True):
            p.grad = part.clone()
        optimizer.step()
        if step + 1 in STAGES:
            yield step + 1, model


def training_images(data_root: str | None) -> tuple[Tensor, Tensor, str]:
    """Images float32 [n, 784] in [0, 1], labels [n], and what they are: without a folder the best that needs none.

    Raises:
        UserError: when the folder does not hold MNIST.
    """
    if data_root:
        folder = Path(data_root) / "MNIST" / "raw"
        for name in _IDX_HEADERS:
            if not (folder / name).is_file():
                raise UserError(
                    f"--data-root {data_root}: there is no {folder / name}; leave it out to use other images"
                )
        pixels, classes = (np.fromfile(folder / name, np.uint8, offset=skip) for name, skip in _IDX_HEADERS.items())
        return torch.from_numpy(pixels).view(-1, INPUTS) / 255, torch.from_numpy(classes).long(), "MNIST"
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        generator = torch.Generator().manual_seed(0)
        centres, labels = torch.rand((CLASSES, INPUTS), generator=generator), torch.arange(2000) % CLASSES
        noise = torch.rand((len(labels), INPUTS), generator=generator)
        return (centres[labels] + 3 * noise) / 4, labels, "random images about 10 centres"
    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16
    large = torch.nn.functional.interpolate(small, size=(28, 28), mode="bilinear")
    return large.flatten(1), torch.from_numpy(bunch.target).long(), "scikit-learn's digits, enlarged"


def time_in_turn(found: Sequence[Measured]) -> None:
    """Time each estimator's step in turn, round after round; the best round counts."""
    steps = [gradient_step(one.crew) for one in found]
    for step in steps:
        step()
    for _ in range(_ROUNDS):
        for one, step in zip(found, steps, strict=True):
            one.ms = min(one.ms, repeated(step)(_TIMED))


def as_rows(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """A row of the table for each; flips are compared with copies of as many losses, and of as many milliseconds."""
    copies = [one for one in found if not one.flips]

    def against(one: Measured, cost: Callable[[Measured], float]) -> float | None:
        return one.error / _at(cost(one), [(cost(other), other.error) for other in copies]) if one.flips else None

    return [
        {
            "estimator": one.name,
            "losses an image": one.losses,
            "relative squared error": one.error,
            "gradient, ms": one.ms,
            "of copies' at equal losses": against(one, lambda other: other.losses),
            "of copies' at equal ms": against(one, lambda other: other.ms),
        }
        for one in found
    ]


def _at(cost: float, points: Sequence[tuple[float, float]]) -> float:
    """The error that copies have at a cost: between measured points on a line in logarithms, beyond them as 1 / cost."""
    costs, found = (np.log(values) for values in zip(*sorted(points), strict=True))
    beyond = np.log(cost) - np.clip(np.log(cost), costs[0], costs[-1])
    return float(np.exp(np.interp(np.log(cost), costs, found) - beyond))
