"""How others watch a run from within its process, and end it: one small protocol, for loggers and for rules of one's own.

    class Enough(glr_dist.Callback):
        def on_step(self, progress):
            return progress.validation is not None and progress.validation > 0.97

    glr_dist.train(model, data, config, callbacks=[Enough()])

Callbacks see figures and change none: they are called between steps, and a run with them has the same bits. What one of them
raises ends the run after a checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glr_dist.config import Config
    from glr_dist.engine.driver import Progress
    from glr_dist.engine.outcome import TrainResult


class Callback:
    """Watches a run; override what is of interest. Who returns True ends the training, after a checkpoint."""

    def on_start(self, run: str, config: Config) -> None:
        """Called once before the first step; ``run`` is the run's folder, ``config`` has all its settings."""

    def on_step(self, progress: Progress) -> bool | None:
        """Called after every step; ``progress.figures`` is the step's line of metrics.jsonl."""

    def on_checkpoint(self, checkpoint: str, progress: Progress) -> bool | None:
        """Called when a step's checkpoint is on disk, in that folder."""

    def on_end(self, result: TrainResult) -> None:
        """Called once when the run has been measured; not where it was interrupted or has failed."""
