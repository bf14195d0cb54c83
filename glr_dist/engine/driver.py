"""The driver's loop: a step of the trainer -> journal, metrics, now and then a checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from glr_dist.config import Config
from glr_dist.core.prediction import EVALUATION_BATCH, Accuracy, clean_accuracy
from glr_dist.engine.crew import Crew
from glr_dist.engine.interrupts import held_interrupts
from glr_dist.engine.placed import StepResult
from glr_dist.engine.recorder import Recorder
from glr_dist.engine.task import Task
from glr_dist.engine.trainer import Trainer
from glr_dist.store.checkpoint import save_checkpoint
from glr_dist.store.storage import Storage


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a progress display needs to know after a step."""

    step: int
    steps: int
    loss: float | None
    validation: float | None
    noisy_forwards_per_second: float
    seconds_left: float


@dataclass
class Clock:
    """Time and work so far, over all parts of an interrupted run."""

    seconds: float = 0.0
    noisy_forwards: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


class Driver:
    """Takes one run from step to step, and writes down what it has come to.

    Attributes:
        run: the run's folder.
        clock: seconds and work of all its steps.
        checkpoint_path: its newest checkpoint.
        look: has a checkpoint evaluated beside the run, given its folder; returns at once.
    """

    def __init__(
        self,
        config: Config,
        task: Task,
        trainer: Trainer,
        run: Storage,
        recorder: Recorder,
        *,
        meta: dict[str, Any],
        clock: Clock,
    ) -> None:
        """Take over a run.

        Args:
            config: how many steps, and what is due when.
            task: what is trained.
            trainer: does the steps.
            run: the run's folder.
            recorder: keeps losses and figures.
            meta: what every checkpoint's meta.json says beside the step and the clock.
            clock: seconds and work of the steps that are done already.
        """
        self.run = run
        self.clock = clock
        self.checkpoint_path = ""
        self.look: Callable[[str], None] = lambda checkpoint: None
        self._config = config
        self._task = task
        self._trainer = trainer
        self._recorder = recorder
        self._meta = meta
        self._recorded = trainer.step  # the step up to which losses are in the journal
        self._saved: int | None = None  # the step of the newest checkpoint
        self._validation: Accuracy | None = None

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self._trainer.step

    def train(self, crew: Crew, *, seconds: float | None, show: Callable[[Progress], None]) -> None:
        """Run to the last step, or until ``seconds`` are over; ends with a checkpoint, also when interrupted.

        Args:
            crew: who evaluates and reconstructs.
            seconds: wall-clock limit of this call, or None.
            show: called after every step.

        Raises:
            KeyboardInterrupt: after a checkpoint, when the user interrupted.
        """
        first, before, started = self.step, dataclasses.replace(self.clock), time.monotonic()
        try:
            with held_interrupts() as interrupted:
                while self.step < self._config.steps:
                    result = self._advance(crew)
                    self.clock.seconds = before.seconds + time.monotonic() - started
                    self.clock.bytes_up = before.bytes_up + crew.traffic.up
                    self.clock.bytes_down = before.bytes_down + crew.traffic.down
                    loss = self._record(result)
                    show(self._progress(loss, (time.monotonic() - started) / (self.step - first)))
                    if interrupted():
                        raise KeyboardInterrupt
                    if seconds is not None and time.monotonic() - started >= seconds:
                        break
            if self._saved != self.step:
                self.checkpoint()
        except BaseException:
            # the last whole step is kept whatever went wrong; what went wrong is what the user must hear
            with contextlib.suppress(Exception):
                if self._whole and self._saved != self.step:
                    self.checkpoint()
            raise

    def checkpoint(self) -> None:
        """Write a checkpoint of the current step; the journal up to it is on disk first."""
        self._recorder.flush()
        self.checkpoint_path = save_checkpoint(
            self.run,
            step=self.step,
            weights=self._trainer.model.state_dict(),
            training=self._trainer.state(),
            meta={**self._meta, "clock": dataclasses.asdict(self.clock)},
        )
        self._saved = self.step

    def measure(self, split: str) -> Accuracy | None:
        """Clean accuracy on a split, or None where there is no such split."""
        data = self._task.data
        if not data.count(split):
            return None
        return clean_accuracy(self._trainer.model, self._task.loss, data.batches(split, EVALUATION_BATCH))

    @property
    def _whole(self) -> bool:
        """Whether parameters, optimizer and journal all belong to the same step."""
        return self._trainer.whole and self._recorded == self.step

    def _advance(self, crew: Crew) -> StepResult:
        result = self._trainer.advance(crew)
        self.clock.noisy_forwards += self._task.plan.noisy_forwards_per_step
        self._recorder.losses(self.step, result, self._task.plan.seed)
        self._recorded = self.step
        return result

    def _record(self, result: StepResult) -> float | None:
        """Figures, validation and checkpoint when they are due; returns the step's mean loss."""
        config = self._config
        line: dict[str, Any] = {"step": self.step, "loss": result.loss, "lr": self._trainer.lr}
        if self._due(config.validate_every):
            self._validation = self.measure("validation")
            if self._validation is not None:
                line["validation_accuracy"] = self._validation.accuracy
                line["validation_loss"] = self._validation.loss
        line |= {"seconds": round(self.clock.seconds, 4), "noisy_forwards": self.clock.noisy_forwards}
        self._recorder.figures(line)
        looked_at = config.evaluate_every and self.step % config.evaluate_every == 0
        if looked_at or self._due(config.checkpoint_every):
            self.checkpoint()
        if looked_at:
            self.look(self.checkpoint_path)
        return result.loss

    def _due(self, every: int) -> bool:
        """Whether this step is one of every so many, or the last; 0: the last alone."""
        return self.step == self._config.steps or bool(every and self.step % every == 0)

    def _progress(self, loss: float | None, seconds_per_step: float) -> Progress:
        steps = self._config.steps
        return Progress(
            step=self.step,
            steps=steps,
            loss=loss,
            validation=None if self._validation is None else self._validation.accuracy,
            noisy_forwards_per_second=self.clock.noisy_forwards / max(self.clock.seconds, 1e-9),
            seconds_left=(steps - self.step) * seconds_per_step,
        )
