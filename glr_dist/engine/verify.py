"""Verify: evaluate some journalled units again, at the parameters of their step: an audit of what workers claimed.

A run of U units of which a share s is audited finds a worker that lied in n of them with probability 1 - (1 - s)^n. All else
that the run's files say is compared with the replay whole: metrics, checkpoints, and what they say they were made of.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from glr_dist.core.losses import Loss
from glr_dist.core.threads import fixed_threads
from glr_dist.data.source import DataSource
from glr_dist.engine.audit import Audit
from glr_dist.engine.callbacks import Progress
from glr_dist.engine.evaluator import Evaluator
from glr_dist.engine.replayer import Replayer, device_of
from glr_dist.errors import UserError

_SEED_BITS = 53  # whole numbers that JSON readers of any language keep


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A unit whose losses were not those that it gives."""

    step: int  # from 1, as in the journal
    site: int  # the noised one, -1 for all at once
    unit: int  # its number at this site
    largest: float  # absolute difference of a loss

    def __str__(self) -> str:
        return f"step {self.step}, site {self.site}, unit {self.unit}: losses differ by up to {self.largest:.3g}"


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What an audit found; the keys of ``glr-dist verify --json``."""

    run: str  # its folder
    steps: int  # in its journal, from 1 on: these are covered
    planned: int  # steps of its config
    checkpoints: tuple[int, ...]  # the steps whose checkpoints are what the replay gives
    signed: bool  # whether the journal's signatures were looked at
    units: int  # in its journal
    checked: int  # units evaluated again
    seed: int  # of the choice; the same one makes the same choice
    differences: tuple[Difference, ...]  # in the journal's order
    findings: tuple[str, ...]  # what else is not as it should be: a line each, which names the file
    seconds: float  # the audit took, the replay on the way included


def verify(
    run_dir: str | Path,
    share: float = 0.05,
    *,
    seed: int | None = None,
    model: nn.Module | None = None,
    data: DataSource | None = None,
    loss: Loss | None = None,
    data_root: str | None = None,
    surrogate: str | None = None,
    trust_model: bool = False,
    journal_key: str | Path | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
) -> VerifyResult:
    """Evaluate a random share of a run's units again and compare their losses with the journal, bit for bit.

    All of the journal is replayed, and what metrics and checkpoints say is compared with that; nothing tells that all three
    were cut back to an earlier checkpoint. ``share`` is above 0 and at most 1; at least one unit is checked. ``seed`` is
    that of the choice; None: one that nobody can foresee. ``loss`` was passed to `train`, if one was; the rest is as for
    `glr_dist.engine.replay.replay`.

    Raises:
        UserError: for a share outside its range, and as `glr_dist.engine.replay.replay`.
    """
    if not 0 < share <= 1:
        raise UserError(f"--share {share}: must be above 0, at most 1")
    if seed is not None and seed < 0:
        raise UserError(f"--seed {seed}: must be 0 or more")
    seed = secrets.randbits(_SEED_BITS) if seed is None else seed
    replayer = Replayer(
        run_dir,
        model=model,
        data=data,
        loss=loss,
        trust_model=trust_model,
        data_root=data_root,
        surrogate=surrogate,
        journal_key=journal_key,
    )
    if loss is None and replayer.card is not None and replayer.card.loss is None:
        raise UserError(
            f"{run_dir}: its loss was given by Python code; give it to glr_dist.engine.verify.verify(loss=...)"
        )
    steps, per_step = replayer.checked_step(None), replayer.task.plan.units_per_step
    chosen = _choose(steps * per_step, share, seed)
    started, audit = time.monotonic(), Audit(replayer)
    differences = _audit(replayer, chosen, audit, show)
    return VerifyResult(
        run=str(replayer.run),
        steps=steps,
        planned=replayer.config.steps,
        checkpoints=tuple(audit.compared),
        signed=replayer.signer is not None,
        units=steps * per_step,
        checked=len(chosen),
        seed=seed,
        differences=tuple(differences),
        findings=tuple(audit.findings),
        seconds=time.monotonic() - started,
    )


def _choose(units: int, share: float, seed: int) -> np.ndarray:
    """Which units, by their number in the whole journal: sorted, none twice."""
    count = max(1, math.ceil(share * units - 1e-9))
    return np.sort(np.random.default_rng(seed).choice(units, count, replace=False))


def _audit(replayer: Replayer, chosen: np.ndarray, audit: Audit, show: Callable[[Progress], None]) -> list[Difference]:
    """Replay all, evaluate the chosen units again, each at its step's parameters; those that differ."""
    trainer, per_step, engine = replayer.trainer, replayer.task.plan.units_per_step, replayer.config.engine
    device = device_of(replayer.run, engine.evaluates_on)
    evaluator = Evaluator(replayer.task, replayer.table, device)
    found: list[Difference] = []
    last = replayer.checked_step(None)
    with fixed_threads(engine.threads):
        audit.checkpoint()
        while trainer.step < last:
            first = trainer.step * per_step
            mine = chosen[slice(*np.searchsorted(chosen, [first, first + per_step]))] - first
            found += _differences(replayer, evaluator, set(mine.tolist()))
            show(replayer.advance(last))
            assert replayer.result is not None
            audit.step(replayer.result)
    audit.end()
    return found


def _differences(replayer: Replayer, evaluator: Evaluator, positions: Set[int]) -> list[Difference]:
    """Those of the next step's units at these positions that differ."""
    if not positions:
        return []
    journalled = replayer.journal.of_step(replayer.trainer.step)
    units = [unit for position, unit in enumerate(journalled) if position in positions]
    evaluated = evaluator.losses(replayer.trainer.theta(), units)
    found = []
    for unit, losses in zip(units, evaluated, strict=True):
        if not np.array_equal(losses, journalled[unit]):
            largest = float(np.abs(losses.astype(np.float64) - journalled[unit]).max())
            found.append(Difference(step=unit.step + 1, site=unit.site, unit=unit.number, largest=largest))
    return found
