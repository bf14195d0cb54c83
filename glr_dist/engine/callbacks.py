"""How others watch a run from within its process, and end it: one small protocol, for loggers and for rules of one's own.

    class Enough(glr_dist.Callback):
        def on_step(self, progress):
            return progress.validation is not None and progress.validation > 0.97

    glr_dist.train(model, data, config, callbacks=[Enough()])

Callbacks see figures and change none: they are called between steps, and a run with them has the same bits. What one of them
raises ends the run after a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from glr_dist.config import Config


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a progress display needs to know after a step."""

    step: int
    steps: int
    loss: float | None
    validation: float | None = None
    seconds_left: float
    noisy_forwards_per_second: float = 0.0
    weakest: tuple[str, float] | None = None  # the layer with the lowest signal-to-noise ratio, and it
    bottleneck: tuple[str, float] | None = None  # the phase that takes the most, and its share; None: evaluation
    workers: int = 0  # evaluator actors at work; 0: it is done in this process
    retries: int = 0  # calls that were handed out again, as their worker died or took too long
    figures: Mapping[str, Any] = field(default_factory=dict)  # the step's line of metrics.jsonl


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a finished run reports; the keys of ``glr-dist train --json``."""

    run: str
    checkpoint: str
    steps: int
    seconds: float
    test_accuracy: float | None
    validation_accuracy: float | None  # None of targets that are numbers, too
    test_loss: float | None
    validation_loss: float | None
    best_checkpoint: str | None  # by validation accuracy; None: there was no validation, or its checkpoint is gone
    best_validation_accuracy: float | None
    best_test_accuracy: float | None
    ended_by: str  # steps, seconds, patience or callback
    noisy_forwards: int
    noisy_forwards_per_second: float
    bytes_up: int
    bytes_down: int
    params_sha256: str
    workers: int
    workers_lost: int
    journal: bool


class Callback:
    """Watches a run; override what is of interest. Who returns True ends the training, after a checkpoint."""

    def on_phase(self, what: str) -> None:
        """Called when something begins that may take a while and is no step: data are opened, workers started."""

    def on_start(self, run: str, config: Config) -> None:
        """Called once before the first step; ``run`` is the run's folder, ``config`` has all its settings."""

    def on_step(self, progress: Progress) -> bool | None:
        """Called after every step; ``progress.figures`` is the step's line of metrics.jsonl."""

    def on_checkpoint(self, checkpoint: str, progress: Progress) -> bool | None:
        """Called when a step's checkpoint is on disk, in that folder."""

    def on_end(self, result: TrainResult) -> None:
        """Called once when the run has been measured; not where it was interrupted or has failed."""


def announce(callbacks: Iterable[Callback], what: str) -> None:
    """Tell those who look on what is going on now."""
    for callback in callbacks:
        callback.on_phase(what)
