"""A trial: one short training in this process, measured on the validation split and on nothing else.

Trials are compared at equal CPU times of training, since another number of copies makes another step, and a busy machine
must not decide. How many steps that is, a trial knows from the time of steps of its kind; its schedule is that of the whole
run, shrunk to them.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from glr_dist.config import Config
from glr_dist.core.config import NoiseConfig
from glr_dist.core.losses import Loss
from glr_dist.core.prediction import EVALUATION_BATCH, clean_accuracy
from glr_dist.data.source import DataSource
from glr_dist.engine.assembly import crew_here
from glr_dist.engine.checks import set_up
from glr_dist.engine.crew import Crew
from glr_dist.engine.task import Task
from glr_dist.engine.trainer import Trainer
from glr_dist.engine.validation import SPLIT
from glr_dist.errors import UserError
from glr_dist.tuning.space import with_values

LATE = "out of time"  # the fault of a trial that was cut short
_PROBE_STEPS, _PROBE_SECONDS = 10, 0.3  # a kind of step is timed for so long


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training that was tried.

    Attributes:
        number: of its values among all that were tried; 0: the config as it was given.
        rung: how long it trained, as a place among the lengths of trials, from 0 for the shortest.
        values: what it set, by dotted key.
        steps: optimizer steps.
        seconds: of CPU time that they took.
        accuracy: on the validation split, without noise; None if it came to none.
        loss: there.
        fault: why it came to no accuracy.
    """

    number: int
    rung: int
    values: Mapping[str, Any]
    steps: int = 0
    seconds: float = 0.0
    accuracy: float | None = None
    loss: float | None = None
    fault: str = ""

    @property
    def score(self) -> tuple[float, float]:
        """The higher, the better: the accuracy, and among equal ones the loss."""
        return -1.0 if self.accuracy is None else self.accuracy, -math.inf if self.loss is None else -self.loss


Interrupted = Callable[[], bool]
Tell = Callable[[Trial], None]


class Bench:
    """Trains configs that differ in a few values, one after the other; can be pickled."""

    def __init__(self, start: Config, model: nn.Module, data: DataSource, loss: Loss | None) -> None:
        """Take over what all trials share: the network with its initial parameters, which stay, data, and an own loss."""
        self.start, self.data = start, data
        self._model, self._loss = model, loss
        self.load = 1.0  # wall-clock seconds of a CPU second, when a kind of step was last timed
        self._seconds: dict[tuple[Any, ...], float] = {}  # CPU time of a step, by what it consists of
        self._table: tuple[NoiseConfig | None, np.ndarray | None] = None, None  # the one made last, and of what noise

    def train(
        self, number: int, rung: int, values: Mapping[str, Any], seconds: float, over: Callable[[], bool]
    ) -> Trial:
        """Train for about so many seconds of CPU time, and measure; ``over``: whether no time is left, asked every step."""
        trial = Trial(number=number, rung=rung, values=values)
        try:
            config = with_values(self.start, values)
            steps = max(1, int(seconds / self.step_seconds(values)))
            trainer, task, crew = self._ready(shortened(config, steps))
            began = time.process_time()
            while trainer.step < steps:
                if over():
                    return dataclasses.replace(trial, steps=trainer.step, fault=LATE)
                trainer.advance(crew)
            spent = time.process_time() - began
            self._seconds[kind_of_step(values)] = spent / steps
            found = clean_accuracy(task.model, task.loss, self.data.batches(SPLIT, EVALUATION_BATCH))
        except UserError as error:  # such as a gradient that is not finite
            return dataclasses.replace(trial, fault=str(error))
        loss = found.loss if math.isfinite(found.loss) else None
        return dataclasses.replace(trial, steps=steps, seconds=spent, accuracy=found.accuracy, loss=loss)

    def step_seconds(self, values: Mapping[str, Any]) -> float:
        """Seconds of CPU time that a step with such values takes, found by doing some that lead nowhere.

        Raises:
            UserError: for values that can't be trained with.
        """
        kind = kind_of_step(values)
        if kind not in self._seconds:
            still = {"optimizer.lr": 1e-12, "noise.scale": 1.0}  # so that none, however foolish, blow up here
            trainer, _, crew = self._ready(with_values(self.start, {**values, **still}))
            trainer.advance(crew)  # the first one makes what the others use again
            began, clock = time.process_time(), time.monotonic()
            while trainer.step <= _PROBE_STEPS and time.process_time() - began < _PROBE_SECONDS:
                trainer.advance(crew)
            spent = time.process_time() - began
            self.load = max(1.0, (time.monotonic() - clock) / spent)
            self._seconds[kind] = spent / (trainer.step - 1)
        return self._seconds[kind]

    def _ready(self, config: Config) -> tuple[Trainer, Task, Crew]:
        trainer, task = set_up(config, copy.deepcopy(self._model), self.data, self._loss)
        noise = dataclasses.replace(config.noise, scale=1.0)
        if self._table[0] != noise:  # making one takes as long as a short trial
            self._table = noise, task.make_table()
        return trainer, task, crew_here(task, self._table[1])


def kind_of_step(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a step's time hangs on: all values but the real numbers, such as a learning rate."""
    return tuple(sorted((key, value) for key, value in values.items() if not isinstance(value, float)))


def shortened(config: Config, steps: int) -> Config:
    """The config with so many steps, and its schedule shrunk to them."""
    share, schedule = steps / config.steps, config.schedule
    schedule = dataclasses.replace(
        schedule,
        every=max(1, round(schedule.every * share)),
        gamma=schedule.gamma ** (1 / share) if schedule.name == "exponential" else schedule.gamma,
    )
    return dataclasses.replace(config, steps=steps, schedule=schedule)
