"""The driver's loop: parameters -> gradient -> optimizer step -> journal, metrics, now and then a checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from glr_dist.core.parameters import flat_parameters
from glr_dist.core.prediction import EVALUATION_BATCH, Accuracy, clean_accuracy
from glr_dist.engine.crew import Crew, StepResult
from glr_dist.engine.interrupts import held_interrupts
from glr_dist.engine.optimization import assign_gradient
from glr_dist.engine.task import Task
from glr_dist.store.checkpoint import save_checkpoint
from glr_dist.store.events import EventWriter
from glr_dist.store.journal import JournalWriter
from glr_dist.store.journal_file import JournalRow
from glr_dist.store.metrics import MetricsWriter
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
    """Owns the parameters, the optimizer and the run folder of one run."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        run: Storage,
        *,
        meta: dict[str, Any],
        journal: JournalWriter | None,
        events: EventWriter | None = None,
        validate_every: int,
        checkpoint_every: int,
        first_step: int = 0,
        clock: Clock | None = None,
        evaluate_every: int = 0,
        look: Callable[[str], None] = lambda checkpoint: None,
    ) -> None:
        """Take over a model and its optimizer.

        Args:
            model: holds the parameters; its trainable ones are what the optimizer has.
            task: what is trained.
            optimizer: over the task's trainable parameters.
            schedule: stepped after every optimizer step.
            run: the run folder.
            meta: what every checkpoint's meta.json says beside the step and the clock.
            journal: where losses go, or None.
            events: where TensorBoard's curves go, or None.
            validate_every: steps between validations; 0: only at the end.
            checkpoint_every: steps between checkpoints; 0: only at the end.
            first_step: steps done already.
            clock: seconds and noisy forward passes of those steps.
            evaluate_every: steps between checkpoints that are shown to ``look``; 0: none.
            look: has a checkpoint evaluated, given its folder; returns at once.
        """
        self.model = model
        self.task = task
        self.optimizer = optimizer
        self.schedule = schedule
        self.run = run
        self.meta = meta
        self.journal = journal
        self.metrics = MetricsWriter(run)
        self.events = events
        self.validate_every = validate_every
        self.checkpoint_every = checkpoint_every
        self.step = first_step
        self.clock = clock or Clock()
        self.evaluate_every = evaluate_every
        self._look = look
        self.saved: int | None = None  # step of the newest checkpoint
        self.checkpoint_path = ""
        self.validation: Accuracy | None = None
        names = task.trainable
        self._whole = True  # parameters, optimizer state and journal belong to self.step
        self.lr = 0.0  # learning rate of the last step
        self._trainable = [p for name, p in model.named_parameters() if name in names]

    def train(self, crew: Crew, steps: int, *, seconds: float | None, show: Callable[[Progress], None]) -> None:
        """Run to step ``steps``, or until ``seconds`` are over; ends with a checkpoint, also when interrupted.

        Args:
            crew: who evaluates and reconstructs.
            steps: the last step.
            seconds: wall-clock limit of this call, or None.
            show: called after every step.

        Raises:
            KeyboardInterrupt: after a checkpoint, when the user interrupted.
        """
        before = dataclasses.replace(self.clock)
        started = time.monotonic()
        first = self.step
        try:
            with held_interrupts() as interrupted:
                while self.step < steps:
                    parameters = flat_parameters(self.model).numpy()
                    result = crew.gradient(parameters, self.step)
                    self._apply(result)
                    self.clock.seconds = before.seconds + time.monotonic() - started
                    self.clock.bytes_up = before.bytes_up + crew.traffic.up
                    self.clock.bytes_down = before.bytes_down + crew.traffic.down
                    loss = self._record(result, steps)
                    show(self._progress(steps, loss, (time.monotonic() - started) / (self.step - first)))
                    if interrupted():
                        raise KeyboardInterrupt
                    if seconds is not None and time.monotonic() - started >= seconds:
                        break
            if self.saved != self.step:
                self.checkpoint()
        except BaseException:
            # the last whole step is kept whatever went wrong; what went wrong is what the user must hear
            with contextlib.suppress(Exception):
                if self._whole and self.saved != self.step:
                    self.checkpoint()
            with contextlib.suppress(Exception):
                self._close()
            raise
        self._close()

    def checkpoint(self) -> None:
        """Write a checkpoint of the current step; the journal up to it is on disk first."""
        if self.journal is not None:
            self.journal.flush()
        self.metrics.flush()
        if self.events is not None:
            self.events.flush()
        self.checkpoint_path = save_checkpoint(
            self.run,
            step=self.step,
            weights=self.model.state_dict(),
            training={
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
            },
            meta={**self.meta, "clock": dataclasses.asdict(self.clock)},
        )
        self.saved = self.step

    def measure(self, split: str) -> Accuracy | None:
        """Clean accuracy on a split, or None where there is no such split."""
        if not self.task.data.count(split):
            return None
        return clean_accuracy(self.model, self.task.loss, self.task.data.batches(split, EVALUATION_BATCH))

    def _apply(self, result: StepResult) -> None:
        assign_gradient(self._trainable, result.gradient, self.step)
        self._whole = False
        self.lr = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self.clock.noisy_forwards += self.task.plan.noisy_forwards_per_step
        self._journal(result)
        self._whole = True

    def _journal(self, result: StepResult) -> None:
        if self.journal is not None and result.losses:
            self.journal.append(
                [
                    JournalRow(
                        step=self.step,
                        site=unit.site,
                        unit=unit.number,
                        seed=unit.journalled_seed(self.task.plan.seed),
                        rows=losses.shape[1],
                        losses=losses,
                    )
                    for unit, losses in zip(result.units, result.losses, strict=True)
                ]
            )

    def _close(self) -> None:
        if self.journal is not None:
            self.journal.close()
        self.metrics.close()
        if self.events is not None:
            self.events.close()

    def _record(self, result: StepResult, steps: int) -> float | None:
        """Metrics, validation and checkpoint when they are due; returns the step's mean loss."""
        record: dict[str, Any] = {"step": self.step, "loss": result.loss, "lr": self.lr}
        if self.step == steps or (self.validate_every and self.step % self.validate_every == 0):
            self.validation = self.measure("validation")
            if self.validation is not None:
                record |= {
                    "validation_accuracy": self.validation.accuracy,
                    "validation_loss": self.validation.loss,
                }
        record |= {"seconds": round(self.clock.seconds, 4), "noisy_forwards": self.clock.noisy_forwards}
        self.metrics.write(record)
        if self.events is not None:
            self.events.write(record)
        looked_at = self.evaluate_every and self.step % self.evaluate_every == 0
        if self.step == steps or looked_at or (self.checkpoint_every and self.step % self.checkpoint_every == 0):
            self.checkpoint()
        if looked_at:
            self._look(self.checkpoint_path)
        return result.loss

    def _progress(self, steps: int, loss: float | None, seconds_per_step: float) -> Progress:
        return Progress(
            step=self.step,
            steps=steps,
            loss=loss,
            validation=None if self.validation is None else self.validation.accuracy,
            noisy_forwards_per_second=self.clock.noisy_forwards / max(self.clock.seconds, 1e-9),
            seconds_left=(steps - self.step) * seconds_per_step,
        )
