"""The settings of noise and estimator."""

from __future__ import annotations

import math
from dataclasses import dataclass

from glr_dist.errors import UserError, check_known

CERTIFIED = ("certified", "certified-zero-one")  # losses of the worst case in a ball
ON_NUMBERS = ("mse", "mae", "bce")  # losses whose targets are numbers, and no classes
LOSSES = ("cross-entropy", "zero-one", *CERTIFIED, *ON_NUMBERS)
FAMILIES = ("gaussian", "laplace")
SOURCES = ("table", "generator")
TURNING = ("flips", "joint-flips")  # the schemes that turn the bits of Heaviside units
SCHEMES = ("layerwise", "joint", *TURNING)
BASELINES = ("leave-out", "none")
METHODS: dict[str, tuple[bool, str]] = {  # whether a method lives on losses, and what its training noise moves
    "glr": (True, "neurons"),
    "bp": (False, "nothing"),
    "bp-noise": (False, "neurons"),
    "straight-through": (False, "nothing"),
    "es": (True, "weights"),
}
_SCALES = (1e-30, 1e30)  # whose reciprocal float32 holds too


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """The noise of a run.

    Attributes:
        family: ``gaussian`` or ``laplace``.
        scale: sigma of the Gaussian (its standard deviation) or b of Laplace noise (standard deviation b * sqrt(2)).
        source: ``table`` (one table made on the CPU, sliced by seed: the same on every device, and fast) or
            ``generator`` (a fresh ``torch.Generator`` per unit; all devices must be of one kind).
        table_size: float32 values in the table (4 bytes each).
    """

    family: str = "gaussian"
    scale: float = 1.0
    source: str = "table"
    table_size: int = 2**24

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        check_known("noise.family", self.family, FAMILIES)
        check_known("noise.source", self.source, SOURCES)
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise UserError(f"noise.scale = {self.scale}: must be a finite number above 0")
        if not _SCALES[0] <= self.scale <= _SCALES[1]:
            raise UserError(f"noise.scale = {self.scale}: must be from {_SCALES[0]:g} to {_SCALES[1]:g}, for float32")
        if self.table_size < 2**10:
            raise UserError(f"noise.table_size = {self.table_size}: must be at least {2**10}")


@dataclass(frozen=True, kw_only=True)
class EstimatorConfig:
    """How losses become gradients.

    Attributes:
        scheme: ``layerwise`` (one site noised at a time), ``joint`` (all sites at once, one loss for all), ``flips`` (as
            layerwise, but the bits of Heaviside units are turned one by one and not sampled) or ``joint-flips`` (the
            same with every site noised, for losses that need noise everywhere).
        copies: noisy forward passes per example, step and site (``layerwise``) or per example and step (``joint``); of
            the flips' schemes those at the sites that no Heaviside unit reads.
        base_draws: of the flips' schemes, per example, step and Heaviside site.
        base_antithetic: take base draws in pairs (+eps, -eps).
        flips: bits turned for each base draw and example at a site, drawn by their weight; 0: each. One number for all
            sites of Heaviside units, or one for each in their order.
        antithetic: draw noise in pairs (+eps, -eps).
        baseline: ``leave-out`` subtracts the mean loss of the example's other copies (of other pairs, if antithetic).
        conditioning: replace the score by its expectation given the sign bit where a Heaviside unit reads the site.
            In the flips' schemes no such site has copies.
        sites: names of the layers to train; all parametric leaf layers when empty.
    """

    scheme: str = "layerwise"
    copies: int = 32
    base_draws: int = 1
    base_antithetic: bool = False
    flips: tuple[int, ...] = (0,)
    antithetic: bool = True
    baseline: str = "leave-out"
    conditioning: bool = True
    sites: tuple[str, ...] = ()

    @property
    def signs(self) -> int:
        """Copies that share one draw: 2 with antithetic pairs, else 1."""
        return 2 if self.antithetic else 1

    def check(self) -> None:
        """Raise UserError for values outside their range."""
        check_known("estimator.scheme", self.scheme, SCHEMES)
        check_known("estimator.baseline", self.baseline, BASELINES)
        if self.copies < 1:
            raise UserError(f"estimator.copies = {self.copies}: must be at least 1")
        if self.antithetic and self.copies % 2:
            raise UserError(
                f"estimator.copies = {self.copies}: antithetic pairs need an even number; use"
                f" {self.copies + 1} or estimator.antithetic = false"
            )
        if self.base_draws < 1:
            raise UserError(f"estimator.base_draws = {self.base_draws}: must be at least 1")
        if self.base_antithetic and self.base_draws % 2:
            raise UserError(
                f"estimator.base_draws = {self.base_draws}: antithetic pairs need an even number; use"
                f" {self.base_draws + 1} or estimator.base_antithetic = false"
            )
        if not self.flips or min(self.flips) < 0:
            raise UserError(f"estimator.flips = {list(self.flips)}: must be at least 1, or 0 to turn each bit")
        fewest = 2 * self.signs
        if self.baseline == "leave-out" and self.copies < fewest:
            kind = "leave-pair-out" if self.antithetic else "leave-one-out"
            raise UserError(
                f"estimator.copies = {self.copies}: a {kind} baseline needs at least {fewest} copies;"
                f" use {fewest} or more, or estimator.baseline = 'none'"
            )
        self._refuse_ignored()

    def _refuse_ignored(self) -> None:
        """Raise UserError for a key with another value than its default's that the scheme never looks at."""
        idle = (
            {"conditioning": True}
            if self.scheme in TURNING
            else {"base_draws": 1, "base_antithetic": False, "flips": (0,)}
        )
        fitting = " or ".join(repr(scheme) for scheme in SCHEMES if (scheme in TURNING) != (self.scheme in TURNING))
        for key, default in idle.items():
            if (value := getattr(self, key)) != default:
                raise UserError(
                    f"estimator.{key} = {value}: changes nothing under estimator.scheme = {self.scheme!r}; leave it out, or"
                    f" use estimator.scheme = {fitting}"
                )
