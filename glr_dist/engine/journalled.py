"""The journal in the evaluators' place: every unit is answered with the losses that were observed in the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glr_dist.engine.plan import Plan, Unit
from glr_dist.engine.rows import Made
from glr_dist.store.journal import JournalError, JournalReader
from glr_dist.store.journal_file import JournalRow

_NOT_OF_THIS_RUN = "the journal is not of this config and data: "


class JournalledLosses:
    """Stands where evaluators stand: answers units with the losses in the journal."""

    def __init__(self, plan: Plan, reader: JournalReader) -> None:
        self._plan = plan
        self._reader = reader
        self._step = -1
        self._losses: dict[Unit, np.ndarray] = {}

    def losses(self, theta: np.ndarray, units: Sequence[Unit], made: Made = None) -> list[np.ndarray]:
        """As `Evaluator.losses`, without looking at the parameters or at any row."""
        losses = self.of_step(units[0].step)
        return [losses[unit] for unit in units]

    def of_step(self, step: int) -> dict[Unit, np.ndarray]:
        """Every unit of a step, counted from 0, in their order, with its losses, float32 [K, R].

        Raises:
            JournalError: when the journal's units are not those that the run's config and data make.
        """
        if self._step != step:
            rows, units = self._reader.read(step + 1), self._plan.step(step).units
            if len(rows) != len(units):
                raise JournalError(f"{_NOT_OF_THIS_RUN}step {step + 1} has {len(rows)} units, the run {len(units)}")
            for row, unit in zip(rows, units, strict=True):
                self._check(row, unit)
            self._losses = {unit: row.losses for row, unit in zip(rows, units, strict=True)}
            self._step = step
        return self._losses

    def _check(self, row: JournalRow, unit: Unit) -> None:
        for name, found, planned in (
            ("site", row.site, unit.site),
            ("unit", row.unit, unit.number),
            ("shape", row.losses.shape, unit.shape),
            ("seed", row.seed, unit.journalled_seed(self._plan.seed)),
        ):
            if found != planned:
                raise JournalError(f"{_NOT_OF_THIS_RUN}{_named(row)} has {name} {found}, the run's plan says {planned}")
        if not np.isfinite(row.losses).all():
            raise JournalError(f"the journal is damaged: {_named(row)} has a loss that is not finite")


def _named(row: JournalRow) -> str:
    return f"step {row.step}, site {row.site}, unit {row.unit}"
