"""A seat: a task's network on one device, where evaluator and reconstructor sit; in one process they may share it.

It remembers the latest parameters, rows and draws, so that who reconstructs what was just evaluated loads and draws nothing
anew, and finds the clean pass of these rows done (`glr_dist.core.taps`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from glr_dist.core.noise import TableSource, noise_source
from glr_dist.core.parameters import load_parameters
from glr_dist.core.passes import SiteNoise
from glr_dist.data.batches import Block
from glr_dist.engine.plan import Unit
from glr_dist.engine.rows import Made, RowSupply
from glr_dist.engine.task import Task


class Seat:
    """One copy of a task's network, with the parameters and rows of the call at hand."""

    def __init__(self, task: Task, table: np.ndarray | None, device: str = "cpu") -> None:
        """``table``: the run's noise table, where noise comes from one."""
        self.task = task
        self.device = torch.device(device)
        self.net = task.net(self.device)
        self._parameters = list(self.net.model.parameters())
        self._rows = RowSupply(task)
        self._source = noise_source(task.noise, table, self.device)
        self._theta = np.empty(0, np.float32)
        self._given: np.ndarray | None = None  # the very array that they came in
        self._noise: dict[tuple[int, ...], SiteNoise] = {}  # of the latest block's units
        self._latest: tuple[Block, Tensor, Tensor, int] | None = None  # rows, and the inputs' version

    def at(self, theta: np.ndarray, block: Block, made: Made = None) -> tuple[Tensor, Tensor]:
        """Load all parameters, float32 [D]; the rows of a block, inputs [R, ...] and labels [R].

        ``made``: the rows, where the call brought them along.
        """
        if not self._holds(theta):
            if self._rows.moves:
                self._latest = None
            load_parameters(self._parameters, theta)
            self._noise.clear()
            self._theta, self._given = theta.copy() if theta.flags.writeable else theta, theta
        if self._latest is None or self._latest[0] != block or self._latest[1]._version != self._latest[3]:
            x, labels = self.task.asked(*self._rows.of(theta, block, made), block)
            x, labels = x.to(self.device), labels.to(self.device)
            self._noise.clear()
            self._latest = block, x, labels, x._version  # a network may work in place on what it is given
        return self._latest[1:3]

    def _holds(self, theta: np.ndarray) -> bool:
        """Whether these parameters are loaded; an array that nobody can write to is known at a glance."""
        if theta is self._given and not theta.flags.writeable:
            return True
        # the last one, as a rule an output's bias, tells most of the others at once
        same_end = theta.size == self._theta.size and theta[-1] == self._theta[-1]
        return bool(same_end) and np.array_equal(theta, self._theta)

    def noise(self, unit: Unit) -> SiteNoise:
        """A unit's standard noise, as `Task.draw` cuts it."""
        if not isinstance(self._source, TableSource):
            return self.task.draw(self._source, unit, self.device)
        key = unit.step, unit.site, unit.number, unit.repeat
        if key not in self._noise:  # views of the table: to keep them takes no memory
            self._noise[key] = self.task.draw(self._source, unit, self.device)
        return self._noise[key]
