"""Kinds of work unit: what a method noises, how often, and what one evaluation of it brings.

Shapes: P draws of a unit, K = S * P copies, R rows (examples).
"""

from __future__ import annotations

from dataclasses import dataclass

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
        widest: values per copy and example of the largest tensor behind the noise, where there is a row per copy.
    """

    site: int
    draws: int
    signs: int
    values: int
    shared: bool = False
    widest: int

    def losses(self, draws: int, rows: int) -> tuple[int, int]:
        """The shape [K, R] of what so many draws bring."""
        return draws * self.signs, rows

    def noise(self, draws: int, rows: int) -> int:
        """Noise values of so many draws."""
        return draws * self.values * (1 if self.shared else rows)

    def width(self, rows: int) -> int:
        """Values per copy and example of the largest tensor of a unit, its noise included."""
        return max(self.widest, -(-self.values // rows) if self.shared else self.values)
