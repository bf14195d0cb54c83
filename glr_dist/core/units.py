"""Kinds of work unit: what a method noises, how often, and what one evaluation of it brings.

Shapes: P draws of a unit, K = S * P copies, R rows (examples), F flips of a base draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

ALL_SITES = -1  # the "site" of units that noise every site at once, or the weights


@dataclass(frozen=True, kw_only=True)
class UnitKind:
    """One kind of unit; a method's units are its kinds, each cut into pieces that a worker has room for.

    Attributes:
        site: index of the noised site, or ALL_SITES.
        draws: noise draws that every block of examples gets of this kind in a step.
        signs: losses per draw and example: 2 with antithetic pairs.
        values: noise values of one draw: per example, or of all examples where they share it.
        shared: whether a block's examples share a draw, as those of noise on the weights do.
        batch: whether a loss is that of all of a block's examples, one number for a copy.
        widest: values per copy and example of the largest tensor behind the noise, where there is a row per copy.
    """

    site: int
    draws: int
    signs: int
    values: int
    shared: bool = False
    batch: bool = False
    widest: int

    @property
    def whole(self) -> bool:
        """Whether what comes home are losses themselves, and not differences of losses."""
        return True

    @property
    def noises_all(self) -> bool:
        """Whether the neurons of every site are noised."""
        return self.site == ALL_SITES

    def losses(self, draws: int, rows: int) -> tuple[int, int]:
        """The shape [K, R] of what so many draws bring."""
        return draws * self.signs, 1 if self.batch else rows

    def passes(self, draws: int, rows: int) -> int:
        """Noisy forward passes of one example that so many draws take."""
        return self.losses(draws, rows)[0] * rows

    def fault(self, losses: npt.NDArray[np.float32]) -> str | None:
        """What is wrong with finite losses of the right shape; None: nothing."""
        return None

    def noise(self, draws: int, rows: int) -> int:
        """Noise values of so many draws."""
        return draws * self.values * (1 if self.shared else rows)

    def width(self, rows: int) -> int:
        """Values per copy and example of the largest tensor of a unit, its noise included."""
        return max(self.widest, -(-self.values // rows) if self.shared else self.values)

    def pieces(self, most: int) -> Sequence[tuple[UnitKind, int]]:
        """The units that a block is given: (kind, draws) of each, with ``most`` passes per example at most.

        They are of nearly the same size, so that workers have nearly the same to do. () where one draw is too much.
        """
        most //= self.signs
        return [(self, draws) for draws in _even(self.draws, most)] if most else ()


@dataclass(frozen=True, kw_only=True)
class FlipKind(UnitKind):
    """Units of scheme ``flips``: base draws of a Heaviside site, and passes in which one unit's bit is turned.

    Attributes:
        flips: F, bits that are turned for each base draw and example.
        units: N, bits of the site.
        first: the first of them, which follow each other, where they are not drawn.
        drawn: flips that are drawn by weight for each base draw and example, in all pieces together; 0: not drawn.
        everywhere: whether the base draw noises all other sites too.
    """

    flips: int
    units: int
    first: int = 0
    drawn: int = 0
    everywhere: bool = False

    @property
    def whole(self) -> bool:
        """They are differences."""
        return False

    @property
    def noises_all(self) -> bool:
        """Whether the base draw does."""
        return self.everywhere

    def losses(self, draws: int, rows: int) -> tuple[int, int]:
        """A loss difference for each flip; where they are drawn, before these which bit it is."""
        return draws * self.signs * self.flips * (2 if self.drawn else 1), rows

    def passes(self, draws: int, rows: int) -> int:
        """One for each flip, and one for the base draw."""
        return draws * self.signs * (1 + self.flips) * rows

    def fault(self, losses: npt.NDArray[np.float32]) -> str | None:
        """Which bit was drawn must be the number of one."""
        picks = losses[: len(losses) // 2] if self.drawn else losses[:0]
        sound = ((picks >= 0) & (picks < self.units) & (picks == np.floor(picks))).all()
        return None if sound else f"flips of bits that are none of the {self.units} of the site"

    def width(self, rows: int) -> int:
        """The noise is that of base draws, not of passes."""
        return self.widest

    def pieces(self, most: int) -> Sequence[tuple[UnitKind, int]]:
        """Some base draws with all flips; where there is no room for one draw's, one with a part of the flips."""
        most = max(2, most // self.signs)
        draws = _even(self.draws, max(1, most // (1 + self.flips)))
        sizes = _even(self.flips, most - 1)
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        return [
            (replace(self, draws=count, flips=size, first=0 if self.drawn else self.first + start), count)
            for count in draws
            for size, start in zip(sizes, starts, strict=True)
        ]


def _even(count: int, most: int) -> list[int]:
    """A number cut into as few parts of nearly the same size as there can be, none above ``most``."""
    parts = -(-count // most)
    return [count // parts + (number < count % parts) for number in range(parts)]
