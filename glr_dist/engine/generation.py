"""Who makes the rows of a step's blocks: whoever needs them, or generators.

Rows lie in the object store of the generator that made them; the driver sees references alone. A reference is a shortcut:
who can't follow it any more makes the rows itself, bit for bit the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from glr_dist.engine.plan import described
from glr_dist.engine.task import Task
from glr_dist.workers.pool import Call, RayPool

_NO_PARAMETERS = [np.empty(0, np.float32)]  # for rows that don't depend on the network in training


class Generation:
    """The rows that the calls of a step bring along, in any order of blocks."""

    def __init__(self, task: Task, generators: RayPool | None = None) -> None:
        """Make rows for calls.

        Args:
            task: what is trained.
            generators: pool of role ``generator``; None: whoever needs rows makes them.
        """
        self._task = task
        self.generators = generators

    def of_step(self, step: int, pieces: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """(block's number, a reference to its rows or None) for every block of a step, as soon as there is one.

        Args:
            step: counted from 0.
            pieces: the network's parameters, as `glr_dist.engine.actors.parcels` cut them.
        """
        blocks = self._task.plan.schedule.blocks(step)
        if self.generators is None:
            for number in range(len(blocks)):
                yield number, None
            return
        needed = pieces if self._task.surrogate is None else _NO_PARAMETERS
        for number, block in enumerate(blocks):
            self.generators.submit(Call(number, ((block,), *needed), block.shard))
        for number, (made,) in self.generators.drain():
            yield number, made


def reference_fault(answer: object) -> str | None:
    """What is wrong with a generator's answer, which should be one object reference, wrapped up; None: nothing."""
    import ray

    fine = isinstance(answer, tuple) and len(answer) == 1 and isinstance(answer[0], ray.ObjectRef)
    return None if fine else f"{described(answer)} where a reference to a block's rows belongs"
