"""A step's time with W workers, from what one process takes for it and what the network carries.

A step has B blocks of equal work. W workers do ceil(B / W) / B of it at the same time, or, where there are fewer blocks than
workers, shares of units, whose blocks the driver then reconstructs. All bytes go through the driver's own link:

    down    W parameter vectors
    up      the step's losses, and, where workers reconstruct, a gradient for each largest whole subtree of a share

    step = 2 latency + down / bandwidth + largest share + up / bandwidth + what the driver does: reconstruction where it does
           that, else adding gradients up; then the optimizer and the journal
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from glr_dist.engine.tree import subtrees

DRIVER, WORKERS = "driver", "workers"  # who reconstructs
_ADDED_PER_SECOND = 2e9  # bytes of gradients, in the driver's memory


@dataclass(frozen=True, kw_only=True)
class Work:
    """A step's work as one process does it.

    Attributes:
        evaluation: seconds for all its units.
        reconstruction: seconds for all its blocks.
        driver: seconds for the optimizer's step and what is written down.
        blocks: B.
        units: of a block.
        parameters: bytes of all of them.
        gradient: bytes.
        losses: bytes of a step's.
    """

    evaluation: float
    reconstruction: float
    driver: float
    blocks: int
    units: int
    parameters: int
    gradient: int
    losses: int

    @property
    def alone(self) -> float:
        """Seconds of a step in one process."""
        return self.evaluation + self.reconstruction + self.driver


@dataclass(frozen=True, kw_only=True)
class Link:
    """The driver's network: bytes a second through its own link, and seconds one way."""

    bandwidth: float
    latency: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a step would take.

    Attributes:
        workers: W; 0: all in one process.
        placement: who reconstructs; "" where there are no workers.
        phases: seconds by name.
        down: bytes of parameters.
        up: bytes of losses and gradients.
    """

    workers: int
    placement: str
    phases: dict[str, float]
    down: int
    up: int

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return sum(self.phases.values())

    @property
    def bottleneck(self) -> str:
        """The phase that takes the most."""
        return max(self.phases, key=lambda name: self.phases[name])


def alone(work: Work) -> Forecast:
    """A step in one process."""
    phases = {"evaluation": work.evaluation, "reconstruction": work.reconstruction, "driver": work.driver}
    return Forecast(workers=0, placement="", phases=phases, down=0, up=0)


def forecast(work: Work, link: Link, workers: int, placement: str) -> Forecast:
    """A step with so many workers, of whom so many as it has units find work."""
    whole = workers <= work.blocks
    hands = min(workers, work.blocks if placement == WORKERS else work.blocks * work.units)
    pieces = work.blocks if whole or placement == WORKERS else work.blocks * work.units
    share = math.ceil(pieces / hands) / pieces
    up, gradients = work.losses, 0
    if placement == WORKERS:
        cuts = [number * work.blocks // hands for number in range(hands + 1)]
        gradients = sum(len(subtrees(cuts[n], cuts[n + 1], work.blocks)) for n in range(hands))
        up += gradients * work.gradient
    down = hands * work.parameters
    there = placement == WORKERS
    phases = {
        "evaluation": work.evaluation * share,
        "reconstruction": work.reconstruction * (share if there else 1.0),
        "wire": 2 * link.latency + (down + up) / link.bandwidth,
        "driver": work.driver + max(0, gradients - 1) * work.gradient / _ADDED_PER_SECOND,
    }
    return Forecast(workers=workers, placement=placement, phases=phases, down=down, up=up)


def best(work: Work, link: Link, workers: int) -> Forecast:
    """A step with so many workers, and gradients reconstructed where that is quicker."""
    if not workers:
        return alone(work)
    ways = [forecast(work, link, workers, placement) for placement in (DRIVER, WORKERS)]
    return min(ways, key=lambda way: way.seconds)


def counts(most: int) -> list[int]:
    """Numbers of workers to look at: 0, the powers of two, and the most."""
    return sorted({0, most, *(2**power for power in range(most.bit_length()))})


def cheaper_from(work: Work, link: Link, most: int) -> int | None:
    """The fewest workers with which sending gradients takes less time than sending scalars alone; None: up to ``most``."""
    for workers in counts(most)[1:]:
        if forecast(work, link, workers, WORKERS).seconds < forecast(work, link, workers, DRIVER).seconds:
            return workers
    return None
