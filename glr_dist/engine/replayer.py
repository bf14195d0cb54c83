"""A run that is done again: the crew of the training, with the journal in the evaluators' place.

The journal answers every unit with the losses that were observed; the reconstructor draws the noise again from the unit's
seed. No loss is evaluated.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from glr_dist.config import Config
from glr_dist.core.losses import Loss
from glr_dist.core.own_code import refuse_untrusted
from glr_dist.data.source import DataSource
from glr_dist.engine.assembly import crew_here
from glr_dist.engine.callbacks import Progress
from glr_dist.engine.checks import set_up, surrogate_card
from glr_dist.engine.placed import StepResult
from glr_dist.engine.plan import Plan, Unit
from glr_dist.engine.rows import Made
from glr_dist.errors import UserError
from glr_dist.models.spec import load_weights
from glr_dist.runs.card import DataCard, RunCard
from glr_dist.runs.code import named_code
from glr_dist.runs.record import refuse_edited
from glr_dist.runs.run import CONFIG, RunStore
from glr_dist.store.journal import JournalError, JournalReader, most_bytes
from glr_dist.store.journal_file import JournalRow

_NOT_OF_THIS_RUN = "the journal is not of this config and data: "


class Replayer:
    """A run that is done again step by step: its trainer is at the step that the replay has come to.

    Its card is None where nothing is left that says what the run is made of.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        model: nn.Module | None = None,
        data: DataSource | None = None,
        loss: Loss | None = None,
        data_root: str | None = None,
        surrogate: str | None = None,
        trust_model: bool = False,
        journal_key: str | Path | None = None,
    ) -> None:
        """Open a run and its journal, at the initial parameters; the arguments are those of `replay`.

        Raises:
            UserError: as `replay`.
        """
        self.run, _ = RunStore.at(run_dir)
        moved = {"data.root": data_root, "augment.surrogate": surrogate}
        self.config = self.run.config({key: place for key, place in moved.items() if place is not None})
        self.card = self.run.card()
        _refuse_unknown(self.run, self.config, self.card, {"model": model, "loss": loss, "data": data}, trust_model)
        code = self.run.code(self.card)
        refuse_edited(self.run.changes(self.config), f"{self.run}/{CONFIG}")
        self.signer = self.run.signer(journal_key, writes=False)
        self._reader = JournalReader(self.run.folder, self.signer)
        _refuse_empty(self.run, self.config, self._reader)
        self.trainer, self.task = set_up(self.config, model, data, loss, code)
        self.fold = self.task.fold  # as this version decides it
        self.data_card = DataCard.of(self.config, self.task.data)
        if self.card is not None:
            self.card.refuse_other_config(self.config, str(self.run))
            self.card.refuse_other_source(self.data_card, surrogate_card(self.task), str(self.run))
            self.task = dataclasses.replace(self.task, fold=self.card.fold)
            if self.card.initial is not None:
                begun = self.run.checkpoint(0)  # it was begun from another run's weights, and kept them
                load_weights(self.trainer.model, begun.weights, begun.place)
        self._reader.most = most_bytes(self.task.plan.losses_per_step)
        self.table = self.task.make_table()
        self.journal = JournalledLosses(self.task.plan, self._reader)
        device = device_of(self.run, self.config.engine.reconstructs_on)
        self.result: StepResult | None = None  # of the last step done
        self._opened = time.monotonic()
        self._crew = crew_here(self.task, self.table, device, self.journal)

    def checked_step(self, to: int | None) -> int:
        """The step to go to; None means the journal's last.

        Raises:
            UserError: when the journal does not reach so far.
        """
        last = self._reader.steps()[-1]
        if to is None:
            return last
        if not 0 <= to <= last:
            raise UserError(f"--to {to}: the journal of {self.run} holds steps 1 to {last}; choose one of them")
        return to

    def advance(self, last: int) -> Progress:
        """Do one step on the way to the ``last``.

        Raises:
            JournalError: when the journal does not hold this step's units.
        """
        self.result = self.trainer.advance(self._crew)
        return Progress(
            step=self.trainer.step,
            steps=last,
            loss=self.result.loss,
            seconds_left=(last - self.trainer.step) * (time.monotonic() - self._opened) / self.trainer.step,
        )


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


def device_of(run: RunStore, kind: str) -> str:
    """The kind of device that a role ran on in the training, which must be here too: the bits depend on it.

    Raises:
        UserError: when it is a GPU, and this machine has none.
    """
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"{run}: was trained on GPUs, whose arithmetic no CPU has; use a machine with a GPU of that kind"
        )
    return kind


def _refuse_empty(run: RunStore, config: Config, reader: JournalReader) -> None:
    if not config.observes:
        raise UserError(
            f"{run}: method = {config.method!r} observes no losses: nothing is journalled, nothing to replay"
        )
    if not reader.steps():
        raise UserError(f"{run}: has no journal: it was trained with --journal off, or has not come to its first block")


def _refuse_unknown(
    run: RunStore, config: Config, card: RunCard | None, given: Mapping[str, object], trust_model: bool
) -> None:
    """Refuse to go on without what Python code gave, or with code that the run names and nobody trusts."""
    if given["model"] is None and card is not None and card.model is None:
        raise UserError(
            f"{run}: its model was built by Python code; give it there, with its initial parameters:"
            " glr_dist.engine.replay.replay(run, model=...)"
        )
    named = [text for part, text in named_code(config).items() if given.get(part) is None]
    refuse_untrusted(named, str(run), trust_model)


def _named(row: JournalRow) -> str:
    return f"step {row.step}, site {row.site}, unit {row.unit}"
