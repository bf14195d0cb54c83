"""The settings of a run's work: units, optimizer, learning rate, changed rows, and who does it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from glr_dist.errors import UserError, check_known

# name -> class of torch.optim
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "nadam": "NAdam", "rmsprop": "RMSprop"}
SCHEDULES = ("constant", "linear", "cosine", "one-cycle", "step", "exponential")
ROW_ATTACKS = ("fgsm", "pgd")
RECONSTRUCT = ("auto", "driver", "workers")
DEVICES = ("cpu", "cuda", "auto")


@dataclass(frozen=True, kw_only=True)
class UnitsConfig:
    """The shape of work units; never depends on the number of workers.

    Attributes:
        rows: examples per unit; must divide the batch. 0: a quarter of the batch where that is whole, else all of it. Where
            the loss is that of a whole batch, a unit has all of it in any case.
        copies: most copies per unit; 0 lets the unit's largest tensor have about 8 MB.
    """

    rows: int = 0
    copies: int = 0

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        for name, value in vars(self).items():
            if value < 0:
                raise UserError(f"units.{name} = {value}: must be 0 (automatic) or more")

    def rows_for(self, batch: int, *, whole: bool = False) -> int:
        """Examples per unit for this batch size; ``whole``: a loss is that of a whole batch."""
        if whole:
            return batch
        if self.rows:
            return self.rows
        return batch // 4 if batch % 4 == 0 else batch


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer.

    Attributes:
        name: sgd, adam, adamw, nadam or rmsprop.
        lr: initial (for ``one-cycle``: highest) learning rate.
        weight_decay: as the optimizer defines it (decoupled for adamw).
        options: any other arguments of the ``torch.optim`` class, such as ``momentum`` or ``betas``.
    """

    name: str = "adamw"
    lr: float = 3e-3
    weight_decay: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        check_known("optimizer.name", self.name, OPTIMIZERS)
        if not self.lr > 0:
            raise UserError(f"optimizer.lr = {self.lr}: must be above 0")
        if self.weight_decay < 0:
            raise UserError(f"optimizer.weight_decay = {self.weight_decay}: must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over the run's steps.

    Attributes:
        name: ``constant``, ``linear`` or ``cosine`` (down to 0 at the last step), ``one-cycle``, ``step`` (times ``gamma``
            every ``every`` steps) or ``exponential`` (times ``gamma`` every step).
        gamma: factor of ``step`` and ``exponential``.
        every: period of ``step``, in steps.
        legs: the run's former last steps, ascending: where it was extended (``train --resume RUN --steps N``) and
            ``linear``, ``cosine`` or ``one-cycle`` begin anew. Written by that command.
    """

    name: str = "linear"
    gamma: float = 0.1
    every: int = 1000
    legs: tuple[int, ...] = ()

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        check_known("schedule.name", self.name, SCHEDULES)
        if not 0 < self.gamma <= 1:
            raise UserError(f"schedule.gamma = {self.gamma}: must be above 0, at most 1")
        if self.every < 1:
            raise UserError(f"schedule.every = {self.every}: must be at least 1")
        if any(after <= before for before, after in zip((0, *self.legs), self.legs, strict=False)):
            raise UserError(f"schedule.legs = {list(self.legs)}: must ascend, from 1 on; leave it out in a new run")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What becomes of the rows of each block before anybody sees them.

    Attributes:
        attack: ``fgsm`` or ``pgd``; "": no adversarial rows.
        share: of each block's rows that become adversarial, in [0, 1].
        epsilon: size of the L-infinity ball, in input units (inputs are in [0, 1]).
        jitter: uniform noise in [-jitter, jitter] on the rows that are not adversarial, then clamped to [0, 1]; 0: none.
        shift: most pixels by which every image is moved, up or down and to a side, before all else; what comes in is 0.
        surrogate: the checkpoint of a network with a gradient, on which the attack is made; "": the network in training
            itself, with a straight-through derivative for its Heaviside units.
        steps: gradient steps of ``pgd``.
        step_size: of each, in input units; 0: 2.5 * epsilon / steps.
        part: share of a row's inputs, chosen at random, that each step of ``pgd`` after the first moves, in (0, 1]. Behind
            an input threshold, steps of 2 * epsilon that move a half find far worse rows than any that move all.
    """

    attack: str = ""
    share: float = 0.5
    epsilon: float = 0.1
    jitter: float = 0.0
    shift: int = 0
    surrogate: str = ""
    steps: int = 10
    step_size: float = 0.0
    part: float = 1.0

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        if self.attack:
            check_known("augment.attack", self.attack, ROW_ATTACKS)
        if self.surrogate and not self.attack:
            raise UserError(
                f"augment.surrogate = {self.surrogate!r}: nothing is attacked; add --augment fgsm, or leave it out"
            )
        for name in ("epsilon", "step_size"):
            if not math.isfinite(getattr(self, name)) or getattr(self, name) < 0:
                raise UserError(f"augment.{name} = {getattr(self, name)}: must be a finite number, 0 or more")
        for name in ("share", "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"augment.{name} = {getattr(self, name)}: must be from 0 to 1")
        if not 0 < self.part <= 1:
            raise UserError(f"augment.part = {self.part}: must be above 0, at most 1")
        if self.shift < 0:
            raise UserError(f"augment.shift = {self.shift}: must be 0 or more, in pixels")
        if self.steps < 1:
            raise UserError(f"augment.steps = {self.steps}: must be at least 1")

    @property
    def active(self) -> bool:
        """Whether any row is changed."""
        return bool(self.attack or self.jitter or self.shift)

    def adversarial(self, rows: int) -> int:
        """How many of a block's rows become adversarial: its first ones, rows are in random order already."""
        return round(self.share * rows) if self.attack else 0


@dataclass(frozen=True, kw_only=True)
class CertifyConfig:
    """The balls of loss ``certified``.

    Attributes:
        epsilon: their radius, in input units (inputs are in [0, 1]); a bit more than what is to be proved.
        ramp: share of the steps in which it grows from 0 to that.
        mix: share of the rows that have radius 0, whose loss is the network's own.
    """

    epsilon: float = 0.0
    ramp: float = 0.4
    mix: float = 0.0

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        for name, value in vars(self).items():
            if not 0 <= value <= 1:
                raise UserError(f"certify.{name} = {value}: must be from 0 to 1")


_LEAST = (("reconstructors", 0), ("generators", 0), ("gpus_per_worker", 0), ("threads", 1), ("in_flight", 1))


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Who does the work. How many they are never changes a result; threads and the kind of device may, in the last bits.

    Attributes:
        workers: evaluator actors; 0 runs in this process without Ray, -1 takes what the cluster has.
        reconstruct: ``driver``, or ``workers``: who evaluated a block reconstructs its gradient and sends the sum of its
            blocks home; ``auto`` takes what the first steps measure to be the quicker.
        reconstructors: actors that reconstruct and do nothing else; 0: none.
        generators: actors that make adversarial rows; 0: whoever needs them makes them.
        device: what this process computes on where it does all the work: ``cpu``, ``cuda``, or ``auto``: a GPU where there
            is one. Its arithmetic has bits of its own, so a run stays on the kind that it began on.
        gpus_per_worker: GPUs for each evaluator and reconstructor, may be a fraction.
        threads: torch threads of every evaluator, reconstructor and of the driver.
        in_flight: calls that may wait at one worker.
    """

    workers: int = -1
    reconstruct: str = "auto"
    reconstructors: int = 0
    generators: int = 0
    device: str = "cpu"
    gpus_per_worker: float = 0.0
    threads: int = 1
    in_flight: int = 2

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        if self.workers < -1:
            raise UserError(f"engine.workers = {self.workers}: must be 0 (in-process) or more, or -1 (all CPUs)")
        check_known("engine.reconstruct", self.reconstruct, RECONSTRUCT)
        check_known("engine.device", self.device, DEVICES)
        if self.device == "cuda" and (self.workers > 0 or self.reconstructors or self.generators):
            raise UserError(
                "engine.device = 'cuda' (--device): is the GPU of this process, which leaves the work to actors here; give"
                " these GPUs with --gpus-per-worker, or leave out --workers"
            )
        if self.reconstruct == "workers" and self.reconstructors:
            raise UserError(
                f"engine.reconstructors = {self.reconstructors}: workers reconstruct, and leave nothing to them; leave out"
                " engine.reconstruct, or these"
            )
        if self.gpus_per_worker > 1 and self.gpus_per_worker % 1:
            raise UserError(f"engine.gpus_per_worker = {self.gpus_per_worker}: above 1 it must be a whole number")
        if self.gpus_per_worker and not (self.workers or self.reconstructors):
            raise UserError(
                f"engine.gpus_per_worker = {self.gpus_per_worker}: GPUs are for actors; use --workers 1 or more"
            )
        for name, least in _LEAST:
            if getattr(self, name) < least:
                raise UserError(f"engine.{name} = {getattr(self, name)}: must be at least {least}")

    @property
    def alone_on_gpu(self) -> bool:
        """Whether this process alone does all of the work, on a GPU of its own."""
        return self.device == "cuda" and not self.gpus_per_worker

    @property
    def evaluates_on(self) -> str:
        """The kind of device: its arithmetic has bits of its own."""
        return "cuda" if self.alone_on_gpu or (self.gpus_per_worker and self.workers) else "cpu"

    @property
    def reconstructs_on(self) -> str:
        """The kind of device: that of the workers, unless somebody else is asked to reconstruct."""
        if self.reconstructors:
            return "cuda" if self.gpus_per_worker else "cpu"
        return "cpu" if self.reconstruct == "driver" and not self.alone_on_gpu else self.evaluates_on
