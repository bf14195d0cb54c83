"""Who makes the rows of a step's blocks: whoever needs them, or generators, a step ahead where their network is known.

Rows lie in the object store of the generator that made them; the driver sees references alone. A reference is a shortcut:
who can't follow it any more makes the rows itself, bit for bit the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from glr_dist.engine.rows import MAKE, Supply
from glr_dist.engine.task import Task
from glr_dist.workers.pool import Call, RayPool

_NO_PARAMETERS = [np.empty(0, np.float32)]  # for rows that don't depend on the network in training as it is now


class Generation:
    """Supplies for the calls of each step, in any order of blocks."""

    def __init__(self, task: Task, generators: RayPool | None = None, *, remote: bool = False) -> None:
        """Make supplies for calls.

        Args:
            task: what is trained.
            generators: pool of role ``generator``; None: whoever needs rows makes them.
            remote: whether any of those who get the supplies are actors.
        """
        self._task = task
        self.generators = generators
        self._remote = remote or generators is not None
        self._twin: tuple[np.ndarray, Any] | None = None  # and its reference
        # the step whose blocks the generators have in hand, and its twin
        self._ordered: tuple[int, Supply] | None = None

    def of_step(self, step: int, pieces: Sequence[Any], twin: np.ndarray | None) -> Iterator[tuple[int, Supply]]:
        """(block's number, its supply) for every block of a step, as soon as there is one.

        Args:
            step: counted from 0.
            pieces: the network's parameters, as `glr_dist.engine.actors.parcels` cut them.
            twin: the twin's parameters where they are not the network's own.
        """
        supply = self._supply(twin)
        if self.generators is None:
            for number in range(self._task.schedule.blocks_per_step):
                yield number, supply
            return
        if self._ordered != (step, supply):
            depends = supply is MAKE and self._task.surrogate is None
            self._order(step, pieces if depends else _NO_PARAMETERS, supply)
        for (of, number), (made,) in self.generators.drain():
            if of == step:
                yield number, dataclasses.replace(supply, made=made)
        self._ordered = None
        if self._task.augment.ahead(step + 1):  # while this step is evaluated
            self._order(step + 1, _NO_PARAMETERS, supply)

    def _supply(self, twin: np.ndarray | None) -> Supply:
        if twin is None:
            return MAKE
        if not self._remote:
            return Supply(twin=twin)
        if self._twin is None or self._twin[0] is not twin:
            import ray

            self._twin = twin, ray.put(twin)
        return Supply(twin=self._twin[1])

    def _order(self, step: int, pieces: Sequence[Any], supply: Supply) -> None:
        assert self.generators is not None
        for number, block in enumerate(self._task.schedule.blocks(step)):
            self.generators.submit(Call((step, number), ((block, supply), *pieces), block.shard))
        self._ordered = step, supply
