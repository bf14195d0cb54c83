"""The attacks by name: what each one knows of the network, and the numbers that define it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from glr_dist.errors import UserError, nearest

# name -> what it uses of the network under test
KNOWLEDGE = {
    "random-signs": "none",  # the control: noise of the same size, the worst of many draws
    "fgsm": "gradient",
    "pgd": "gradient",
    "bpda-pgd": "white-box",  # exact forward pass, sigmoid-shaped derivative for Heaviside units (Athalye et al., 2018)
    "eot-pgd": "white-box",  # the same, expectation over the noise that stays on at prediction
    "hopskipjump": "labels",
    "square": "scores",
    "exact": "exact",
}
ITERATIVE = ("pgd", "bpda-pgd", "eot-pgd")
DRAWS = {"random-signs": 1000, "eot-pgd": 16}  # where AttackConfig.draws is 0
_FLAGS = {"step_size": "step-size", "seconds": "seconds-per-sample"}  # those that are not their field's name


@dataclass(frozen=True, kw_only=True)
class AttackConfig:
    """One attack of one size; the norm is always L-infinity.

    Attributes:
        name: one of KNOWLEDGE. ``fgsm`` and ``pgd`` run on a surrogate (transfer) or, if it has a gradient, on the network
            itself (white-box).
        epsilon: size of the ball, in input units (pixels are in [0, 1]).
        steps: gradient steps of the iterative attacks.
        step_size: of each, in input units; 0: 2.5 * epsilon / steps (Madry et al., 2018).
        restarts: random starts of the iterative attacks; of the derivative's slopes, each has so many.
        slopes: of the sigmoid whose derivative stands in for the step's (``bpda-pgd``, ``eot-pgd``).
        draws: ``random-signs``: draws per sample; ``eot-pgd``: noise draws per gradient; 0: 1000 and 16.
        queries: most forward passes per sample of ``hopskipjump`` and ``square``.
        seconds: most seconds per sample of ``exact``.
    """

    name: str
    epsilon: float
    steps: int = 40
    step_size: float = 0.0
    restarts: int = 1
    slopes: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0)
    draws: int = 0
    queries: int = 5000
    seconds: float = 60.0

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        if self.name not in KNOWLEDGE:
            raise UserError(f"--attack {self.name!r}: unknown; {nearest(self.name, KNOWLEDGE)}")
        if not math.isfinite(self.epsilon) or self.epsilon < 0:
            raise UserError(f"--epsilon {self.epsilon}: must be a finite number, 0 or more (pixels are in [0, 1])")
        for field, least in (("steps", 1), ("restarts", 1), ("draws", 0), ("queries", 1)):
            if getattr(self, field) < least:
                raise UserError(f"--{field} {getattr(self, field)}: must be at least {least}")
        for field in ("step_size", "seconds"):
            if not math.isfinite(getattr(self, field)) or getattr(self, field) < 0:
                raise UserError(f"--{_FLAGS[field]} {getattr(self, field)}: must be a finite number, 0 or more")
        if not self.slopes or any(not math.isfinite(slope) or slope <= 0 for slope in self.slopes):
            raise UserError(f"slopes {list(self.slopes)}: give one or more numbers above 0")

    @property
    def draws_made(self) -> int:
        """``draws``, or what 0 stands for."""
        return self.draws or DRAWS.get(self.name, 0)

    @property
    def knowledge(self) -> str:
        """What it uses of the network under test; ``gradient`` attacks on a surrogate are ``transfer``."""
        return KNOWLEDGE[self.name]
