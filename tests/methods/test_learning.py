"""Every method learns, and those that see losses alone point where the gradient points, through a whole run's machinery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import ES, JOINT, small_task, train_small
from torch import Tensor, nn

from glr_dist.core.parameters import flat_parameters
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.config import EngineConfig

LEARN = {
    "steps": 200,
    "batch": 128,
    "model.hidden": [50],
    "optimizer.lr": 0.03,
    "validate_every": 0,
    "checkpoint_every": 0,
    "units.rows": 64,
    "units.copies": 0,
    "noise.table_size": 2**19,
}
RELU = {"method": "bp", "model.activation": "relu"}


def gradient(keys: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The first step's gradient, in-process, and that of the loss without noise by autograd."""
    task = small_task(keys)
    crew = assemble_crew(task, EngineConfig(workers=0))
    found = crew.gradient(flat_parameters(task.model).numpy(), 0).gradient
    rows = [task.rows(block) for block in task.plan.schedule.blocks(0)]
    x, labels = (torch.cat(part) for part in zip(*rows, strict=True))
    loss = nn.functional.cross_entropy(task.model(x), labels)
    clean = torch.autograd.grad(loss, list(task.model.parameters()))
    return torch.from_numpy(found), torch.cat([part.flatten() for part in clean])


@pytest.mark.parametrize(
    ("keys", "least"),
    [
        (RELU, 0.90),
        ({"method": "bp-noise", "model.activation": "relu", "noise.scale": 0.3}, 0.90),
        ({"method": "straight-through"}, 0.90),
        ({"estimator.copies": 32}, 0.85),
        (JOINT | {"estimator.copies": 32, "loss": "zero-one"}, 0.60),
        (ES | {"estimator.copies": 64}, 0.75),
    ],
    ids=["bp", "bp-noise", "straight-through", "layerwise", "joint-zero-one", "es"],
)
def test_every_method_learns_digits(keys: dict[str, Any], least: float, tmp_path: Path) -> None:
    result = train_small(tmp_path / "run", LEARN | keys)
    assert result.validation_accuracy is not None
    assert result.validation_accuracy > least


@pytest.mark.parametrize("family", ["gaussian", "laplace"])
def test_es_points_where_the_gradient_points(family: str) -> None:
    """With D parameters and K antithetic copies the cosine's expectation is about 1 / sqrt(1 + 2 D / K)."""
    keys: dict[str, Any] = {"method": "es", "model.activation": "tanh", "model.hidden": [3], "noise.family": family}
    keys |= {"noise.scale": 0.01, "estimator.copies": 8192, "units.copies": 0, "noise.table_size": 2**22}
    found, expected = gradient(keys)
    assert len(found) == 64 * 3 + 3 + 3 * 10 + 10
    assert float(nn.functional.cosine_similarity(found, expected, dim=0)) > 0.9
    along = float(found @ expected / expected.norm() ** 2)  # and is as long in its direction: unbiased
    assert along == pytest.approx(1.0, abs=0.2)


def test_the_likelihood_ratio_gradient_points_where_the_smoothed_gradient_points() -> None:
    keys = {"model.activation": "tanh", "estimator.copies": 4096, "units.copies": 0, "noise.table_size": 2**22}
    found, expected = gradient(keys | JOINT | {"noise.scale": 0.1})
    assert float(nn.functional.cosine_similarity(found, expected, dim=0)) > 0.95
