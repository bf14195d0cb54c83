"""Work units: the atoms that are evaluated, retried and moved between workers.

A unit says which noise is added where and to which examples; everything else follows from it. Its seed comes from
(run seed, step, site, unit) and nothing else, its shape from the config, so who runs it, and how often, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from glr_dist.core.config import EstimatorConfig
from glr_dist.data.batches import Block
from glr_dist.engine.config import UnitsConfig
from glr_dist.errors import UserError
from glr_dist.seeds import seed_of

ALL_SITES = -1  # the "site" of units that noise every site at once, or the weights
_AUTO_VALUES = 2**21  # noise values at one site that a unit of automatic size holds: 8 MB


@dataclass(frozen=True)
class WorkUnit:
    """One unit.

    Attributes:
        step: counted from 0: the step whose parameters it is evaluated at.
        site: index of the noised site, or ALL_SITES.
        unit: number among the step's units of this site.
        block: which examples.
        draws: noise draws per example; copies = draws, or twice as many with antithetic pairs.
    """

    step: int
    site: int
    unit: int
    block: Block
    draws: int

    def seed(self, run_seed: int) -> np.random.SeedSequence:
        """Where the unit's noise comes from."""
        return seed_of(run_seed, self.step, self.site % 2**32, self.unit)

    def journalled_seed(self, run_seed: int) -> int:
        """The 64 bits of its seed that the journal keeps, and a replay compares."""
        return int(self.seed(run_seed).generate_state(1, np.uint64)[0])

    def __str__(self) -> str:
        site = "all sites" if self.site == ALL_SITES else f"site {self.site}"
        return f"step {self.step}, {site}, unit {self.unit}"


def draw_chunks(estimator: EstimatorConfig, units: UnitsConfig, rows: int, largest: int) -> tuple[int, ...]:
    """How an example's draws are cut into units.

    Args:
        estimator: copies and antithetic pairs.
        units: the most copies per unit.
        rows: examples per unit.
        largest: noise values per example at the largest site.
    """
    draws = estimator.copies // estimator.signs
    most = (units.copies or max(2, _AUTO_VALUES // (rows * largest))) // estimator.signs
    if most < 1:
        raise UserError(f"units.copies = {units.copies}: an antithetic pair is 2 copies; use 2 or more")
    parts = -(-draws // most)  # of nearly the same size, so that workers have nearly the same to do
    return tuple(draws // parts + (number < draws % parts) for number in range(parts))


def step_units(step: int, blocks: Sequence[Block], chunks: Mapping[int, Sequence[int]]) -> list[WorkUnit]:
    """All units of a step, block by block.

    Args:
        step: counted from 0.
        blocks: the step's blocks.
        chunks: {site: draws of each of its units per block}.
    """
    return [
        WorkUnit(step, site, number * len(draws) + part, block, count)
        for number, block in enumerate(blocks)
        for site, draws in chunks.items()
        for part, count in enumerate(draws)
    ]
