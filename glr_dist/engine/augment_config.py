"""Which examples a run is trained on beside the data's own: adversarial copies, and noise on the inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from glr_dist.errors import UserError, nearest

ATTACKS = ("fgsm", "pgd")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What becomes of the rows of each block before anybody sees them.

    Attributes:
        attack: ``fgsm`` or ``pgd``; "": no adversarial rows.
        share: of each block's rows that become adversarial, in [0, 1].
        epsilon: size of the L-infinity ball, in input units (inputs are in [0, 1]).
        jitter: uniform noise in [-jitter, jitter] on the rows that are not adversarial, then clamped to [0, 1]; 0: none.
        surrogate: the checkpoint of a network with a gradient, on which the attack is made; "": the network in training
            itself, with a straight-through derivative for its Heaviside units (its *twin*).
        refresh: steps between copies of the network's parameters to its twin; 1: always the same.
        steps: gradient steps of ``pgd``.
        step_size: of each, in input units; 0: 2.5 * epsilon / steps.
        part: share of a row's inputs, chosen at random, that each step of ``pgd`` after the first moves, in (0, 1]. Behind
            an input threshold, steps of 2 * epsilon that move a half find far worse rows than any that move all.
    """

    attack: str = ""
    share: float = 0.5
    epsilon: float = 0.1
    jitter: float = 0.0
    surrogate: str = ""
    refresh: int = 1
    steps: int = 10
    step_size: float = 0.0
    part: float = 1.0

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        if self.attack and self.attack not in ATTACKS:
            raise UserError(f"augment.attack = {self.attack!r}: unknown; {nearest(self.attack, ATTACKS)}")
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
        for name in ("refresh", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"augment.{name} = {getattr(self, name)}: must be at least 1")
        if self.surrogate and self.refresh > 1:
            raise UserError(
                f"augment.refresh = {self.refresh}: a surrogate from a checkpoint stays as it is; leave one of them out"
            )

    @property
    def active(self) -> bool:
        """Whether any row is changed."""
        return bool(self.attack or self.jitter)

    @property
    def keeps_twin(self) -> bool:
        """Whether the twin's parameters are those of an earlier step, which somebody must keep."""
        return bool(self.attack) and not self.surrogate and self.refresh > 1

    def ahead(self, step: int) -> bool:
        """Whether the adversarial rows of a step, counted from 0, can be made before its parameters are known."""
        return bool(self.surrogate) or step % self.refresh != 0

    def adversarial(self, rows: int) -> int:
        """How many of a block's rows become adversarial: its first ones, rows are in random order already."""
        return round(self.share * rows) if self.attack else 0
