"""Loggers of one's own by the callback protocol: MLflow and Weights & Biases, whichever is installed.

    python scripts/examples/loggers.py mlflow    # or wandb

TensorBoard needs none of this: ``glr-dist train --tensorboard``.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import glr_dist


class MLflow(glr_dist.Callback):
    """Settings, figures and the last checkpoint go to an MLflow run."""

    def on_start(self, run: str, config: glr_dist.Config) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        mlflow.start_run(run_name=run.rpartition("/")[2])
        mlflow.log_params(flat(config))

    def on_step(self, progress: Any) -> None:
        self._mlflow.log_metrics(numbers(progress.figures), step=progress.step)

    def on_end(self, result: Any) -> None:
        self._mlflow.log_artifacts(result.checkpoint, "checkpoint")
        self._mlflow.end_run()


class WeightsAndBiases(glr_dist.Callback):
    """The same on Weights & Biases; WANDB_MODE=offline keeps it on this machine."""

    def on_start(self, run: str, config: glr_dist.Config) -> None:
        import wandb

        self._run: Any = wandb.init(project="glr_dist", name=run.rpartition("/")[2], config=flat(config))

    def on_step(self, progress: Any) -> None:
        self._run.log(numbers(progress.figures), step=progress.step)

    def on_end(self, result: Any) -> None:
        self._run.summary["test_accuracy"] = result.test_accuracy
        self._run.finish()


def flat(config: glr_dist.Config) -> dict[str, Any]:
    """Settings by dotted key."""
    found = {}
    for key, value in dataclasses.asdict(config).items():
        found |= {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {key: value}
    return found


def numbers(figures: Any) -> dict[str, float]:
    """The figures of a step that are numbers."""
    return {key: value for key, value in figures.items() if isinstance(value, int | float)}


LOGGERS = {"mlflow": MLflow, "wandb": WeightsAndBiases}

if __name__ == "__main__":
    settings = glr_dist.Config.from_preset("digits-threshold", steps=200, engine={"workers": 0})
    glr_dist.train(config=settings, callbacks=[LOGGERS[sys.argv[1]]()])
