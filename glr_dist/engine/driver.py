"""The driver's loop: a step of the trainer -> journal, metrics, now and then a checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glr_dist.config import Config
from glr_dist.core.prediction import EVALUATION_BATCH, Accuracy, clean_accuracy
from glr_dist.engine.callbacks import Callback, Progress
from glr_dist.engine.crew import Crew
from glr_dist.engine.diagnosis import Diagnosis
from glr_dist.engine.interrupts import held_interrupts
from glr_dist.engine.keeping import Best, superfluous, worth
from glr_dist.engine.phases import Bottleneck
from glr_dist.engine.placed import StepResult
from glr_dist.engine.recorder import Recorder
from glr_dist.engine.task import Task
from glr_dist.engine.trainer import Trainer
from glr_dist.errors import UserError
from glr_dist.store.checkpoint import Checkpoint, checkpoint_steps, drop_checkpoint, save_checkpoint
from glr_dist.store.storage import Storage


@dataclass
class Clock:
    """Time and work so far, over all parts of an interrupted run."""

    seconds: float = 0.0
    noisy_forwards: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Clock:
        """As a checkpoint has it; UserError where it has none."""
        said = checkpoint.meta.get("clock")
        names = [each.name for each in dataclasses.fields(cls)]
        if not isinstance(said, dict) or any(type(said.get(name)) not in (int, float) for name in names):
            raise UserError(f"the checkpoint {checkpoint.place} is damaged: meta.json has clock = {said!r}")
        return cls(**{name: said[name] for name in names})


@dataclass(eq=False)
class Driver:
    """Takes one run from step to step, and writes down what it has come to."""

    config: Config
    task: Task
    trainer: Trainer
    run: Storage  # the run's folder
    recorder: Recorder
    meta: Mapping[str, Any]  # what every checkpoint's meta.json says beside the step and the clock
    clock: Clock  # seconds and work of all the run's steps
    diagnosis: Diagnosis
    callbacks: Sequence[Callback] = ()
    best: Best = field(default_factory=Best)  # by validation
    checkpoint_path: str = ""  # the newest
    ended_by: str = "steps"  # or seconds, patience, callback
    look: Callable[[str], None] = lambda checkpoint: (
        None
    )  # has a checkpoint evaluated beside the run, and returns at once
    may_write: Callable[[], None] = lambda: None  # raises when the run has become another process's

    def __post_init__(self) -> None:
        self._recorded = self.step  # the step up to which losses are in the journal
        self._saved: int | None = None  # the step of the newest checkpoint
        self._validation: Accuracy | None = None
        self._bottleneck = Bottleneck()
        self._waits = False  # for workers, which may never answer: then a second signal interrupts at once

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.trainer.step

    @property
    def _whole(self) -> bool:
        """Whether parameters, optimizer and journal all belong to one step."""
        return self.trainer.whole and self._recorded == self.step

    def train(self, crew: Crew, *, seconds: float | None, show: Callable[[Progress], None]) -> None:
        """Run to the last step, or until ``seconds`` or patience are over, or a callback says so.

        Ends with a checkpoint, also when interrupted.

        Raises:
            KeyboardInterrupt: after a checkpoint, when the user interrupted.
        """
        first, before, started = self.step, dataclasses.replace(self.clock), time.monotonic()
        # held until the checkpoint is whole, whatever ends the training
        with held_interrupts(lambda: self._waits and self._whole) as interrupted:
            try:
                while self.step < self.config.steps and not self._out_of_patience():
                    result, signals = self._advance(crew)
                    self.clock.seconds = before.seconds + time.monotonic() - started
                    self.clock.bytes_up = before.bytes_up + crew.bytes_up
                    self.clock.bytes_down = before.bytes_down + crew.bytes_down
                    pace = (time.monotonic() - started) / (self.step - first)
                    stop = self._record(result, signals, crew, pace, show)
                    if interrupted():
                        raise KeyboardInterrupt
                    if seconds is not None and time.monotonic() - started >= seconds:
                        self.ended_by = "seconds"
                    if stop:
                        self.ended_by = "callback"
                    if self.ended_by in ("seconds", "callback"):
                        break
                if self._saved != self.step:
                    self.checkpoint()
                if interrupted():
                    raise KeyboardInterrupt
            except BaseException:
                # the last whole step is kept whatever went wrong; what went wrong is what the user must hear
                self._waits = False
                with contextlib.suppress(Exception):
                    if self._whole and self._saved != self.step:
                        self.checkpoint()
                raise

    def checkpoint(self) -> None:
        """Write a checkpoint of the current step; the journal up to it is on disk first."""
        self.may_write()
        self.recorder.flush()
        self.checkpoint_path = save_checkpoint(
            self.run,
            step=self.step,
            weights=self.trainer.model.state_dict(),
            training=self.trainer.state(),
            meta={**self.meta, "clock": dataclasses.asdict(self.clock)},
        )
        self._saved = self.step
        self._drop()

    def _drop(self, former: int | None = None) -> None:
        """Delete checkpoints that nobody wants to keep; ``former`` was the best by validation until now."""
        if not self.config.keep and former is None:
            return
        steps, kept = checkpoint_steps(self.run), self.config.keep
        for step in superfluous(steps, newest=self.step, best=self.best.step, former=former, keep=kept):
            drop_checkpoint(self.run, step)

    def measure(self, split: str) -> Accuracy | None:
        """Clean accuracy on a split, or None where there is no such split."""
        data = self.task.data
        if not data.count(split):
            return None
        return clean_accuracy(self.trainer.model, self.task.loss, data.batches(split, EVALUATION_BATCH))

    def _advance(self, crew: Crew) -> tuple[StepResult, dict[str, float | None]]:
        """Do a step; what it brought, and figures of its signal and noise, if they are due."""
        self.may_write()
        self._waits = True
        due = self.diagnosis.due(self.step + 1)
        again = crew.gradient(self.trainer.theta(), self.step, repeat=1).gradient if due else None
        result = self.trainer.advance(crew)
        self._waits = False
        self.clock.noisy_forwards += self.task.plan.noisy_forwards_per_step
        self.recorder.losses(self.step, result, self.task.plan.seed)
        self._recorded = self.step
        return result, {} if again is None else self.diagnosis.figures(self.step, result.gradient, again)

    def _record(
        self,
        result: StepResult,
        signals: Mapping[str, float | None],
        crew: Crew,
        pace: float,
        show: Callable[[Progress], None],
    ) -> bool:
        """Figures, validation and checkpoint when they are due; whether a callback wants to end here."""
        config, former, better = self.config, self.best.step, False
        line: dict[str, Any] = {"step": self.step, "loss": result.loss, "lr": self.trainer.lr, **signals}
        if self._due(config.validate_every):
            self._validation = self.measure("validation")
            if self._validation is not None:
                if self._validation.accuracy is not None:
                    line["validation_accuracy"] = self._validation.accuracy
                line["validation_loss"] = self._validation.loss
                better = self.best.see(self.step, worth(line))
        line |= {"seconds": round(self.clock.seconds, 4), "noisy_forwards": self.clock.noisy_forwards}
        line |= result.phases.figures()
        self._bottleneck.see(result.phases)
        self.recorder.figures(line)
        progress = self._progress_of(line, crew, pace)
        show(progress)
        stops = [callback.on_step(progress) for callback in self.callbacks]
        looked_at = config.evaluate_every and self.step % config.evaluate_every == 0
        if looked_at or better or self._due(config.checkpoint_every):
            self.checkpoint()
            stops += [callback.on_checkpoint(self.checkpoint_path, progress) for callback in self.callbacks]
        if better and former is not None and self._between(former):
            self._drop(former)
        if looked_at:
            self.look(self.checkpoint_path)
        return any(stops)

    def _between(self, step: int) -> bool:
        """Whether a step has a checkpoint for no other reason than that it was the best."""
        periods = (self.config.checkpoint_every, self.config.evaluate_every)
        return not any(every and step % every == 0 for every in periods)

    def _out_of_patience(self) -> bool:
        over = 0 < self.config.patience <= self.best.since
        if over:
            self.ended_by = "patience"
        return over

    def _due(self, every: int) -> bool:
        """Whether this step is one of every so many, or the last; 0: the last alone."""
        return self.step == self.config.steps or bool(every and self.step % every == 0)

    def _progress_of(self, line: Mapping[str, Any], crew: Crew, seconds_per_step: float) -> Progress:
        return Progress(
            step=self.step,
            steps=self.config.steps,
            loss=line["loss"],
            validation=None if self._validation is None else self._validation.accuracy,
            noisy_forwards_per_second=self.clock.noisy_forwards / max(self.clock.seconds, 1e-9),
            weakest=self.diagnosis.weakest,
            bottleneck=self._bottleneck.name(),
            seconds_left=(self.config.steps - self.step) * seconds_per_step,
            workers=crew.workers,
            retries=sum(pool.counts.retries for pool in crew.pools),
            figures=line,
        )
