"""What a checkpoint says about where it comes from, and putting its state back into a model and an optimizer."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from glr_dist import __version__
from glr_dist.config import Config
from glr_dist.engine.problem import Problem
from glr_dist.errors import UserError
from glr_dist.store.checkpoint import Checkpoint


def run_meta(config: Config, problem: Problem, *, own_model: bool, own_loss: bool) -> dict[str, Any]:
    """What every checkpoint of a run says about itself."""
    return {
        "seed": config.seed,
        "method": config.method,
        "loss": "custom" if own_loss else config.loss,
        "model": {"kind": "custom"} if own_model else dataclasses.asdict(config.model),
        "shape": list(problem.data.shape),
        "classes": list(problem.data.classes),
        "data": {
            "name": problem.data.name,
            "fingerprint": problem.data.fingerprint,
            "resize": config.data.resize,
            "validation": config.data.validation,
            "shards": config.data.shards,
        },
        "noise": dataclasses.asdict(config.noise),
        "estimator": dataclasses.asdict(config.estimator),
        "versions": {
            "glr_dist": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def restore(
    checkpoint: Checkpoint,
    meta: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Put a checkpoint's state into a fresh model, optimizer and schedule.

    Raises:
        UserError: when the checkpoint is of another model or other data.
    """
    load_weights(model, checkpoint)
    theirs, ours = checkpoint.meta["data"]["fingerprint"], meta["data"]["fingerprint"]
    if theirs != ours:
        raise UserError(
            f"{checkpoint.place}: was trained on data with fingerprint {theirs[:12]}…, this data set has {ours[:12]}…;"
            " give the data of the run (--data-root)"
        )
    optimizer.load_state_dict(checkpoint.training["optimizer"])
    schedule.load_state_dict(checkpoint.training["schedule"])


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's weights into a model.

    Raises:
        UserError: when they are another model's; names the first tensor that differs.
    """
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in checkpoint.weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{checkpoint.place}: is a checkpoint of another model: {name} has shape {found.get(name)} there,"
                f" {expected.get(name)} here"
            )
    model.load_state_dict(checkpoint.weights)
