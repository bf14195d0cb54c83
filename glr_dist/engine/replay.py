"""Replay: a run's parameters after any step, from its initial ones and its journal alone, bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from glr_dist.core.threads import fixed_threads
from glr_dist.data.source import DataSource
from glr_dist.engine.callbacks import Progress
from glr_dist.engine.replayer import Replayer
from glr_dist.errors import UserError
from glr_dist.runs.run import RunStore
from glr_dist.store.checkpoint import CheckpointError
from glr_dist.store.metrics import read_metrics


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """What a replay gave; its keys but ``model`` are those of ``glr-dist replay --json``."""

    run: str  # its folder
    step: int  # whose parameters these are
    params_sha256: str  # of them, as a checkpoint has it
    compared: tuple[int, ...]  # the steps up to this one that have a sound checkpoint
    equal: bool | None  # whether they all have the replayed parameters; None when there were none to compare with
    first_difference: int | None  # the first that has others
    uncovered: int | None  # the newest checkpoint's step, where all was replayed and it was not compared
    seconds: float  # the replay took
    training_seconds: float | None  # the training took to get to this step; None where the run does not tell
    model: nn.Module = field(repr=False)  # with the replayed parameters in it


def replay(
    run_dir: str | Path,
    to: int | None = None,
    *,
    model: nn.Module | None = None,
    data: DataSource | None = None,
    data_root: str | None = None,
    surrogate: str | None = None,
    trust_model: bool = False,
    journal_key: str | Path | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> ReplayResult:
    """Rebuild a step's parameters and compare every checkpoint on the way.

    Args:
        run_dir: the run's folder.
        to: steps done, 0 for the initial parameters; None: all that the journal holds.
        model: the model that was passed to `train`, if one was, with the same initial parameters; replayed in place.
        data: the data passed to `train`, if any were.
        data_root: the data's folder; None: the run's.
        surrogate: where the checkpoint that its adversarial rows were made on lies now; None: where it lay.
        trust_model: whether code that the run names (``model.factory``) may be imported.
        journal_key: a file with the key that signed the journal; None: signatures are left alone.
        show: called after every step.
        say: told in a line about checkpoints that are damaged.

    Raises:
        UserError: when it is no run, has no journal or not this step, or other data or another model are given.
    """
    replayer = Replayer(
        run_dir,
        model=model,
        data=data,
        data_root=data_root,
        surrogate=surrogate,
        trust_model=trust_model,
        journal_key=journal_key,
    )
    trainer, last = replayer.trainer, replayer.checked_step(to)
    hashes, started = _checkpoint_hashes(replayer.run, last, say), time.monotonic()
    differing = [step for step in hashes if step == 0 and trainer.params_sha256() != hashes[step]]
    with fixed_threads(replayer.config.engine.threads):
        while trainer.step < last:
            progress = replayer.advance(last)
            if trainer.step in hashes and trainer.params_sha256() != hashes[trainer.step]:
                differing.append(trainer.step)
            show(progress)
    return ReplayResult(
        run=str(replayer.run),
        step=last,
        params_sha256=trainer.params_sha256(),
        compared=tuple(hashes),
        equal=not differing if hashes else None,
        first_difference=differing[0] if differing else None,
        uncovered=_uncovered(replayer.run, hashes) if to is None else None,
        seconds=time.monotonic() - started,
        training_seconds=_training_seconds(replayer.run, last),
        model=trainer.model,
    )


def _uncovered(run: RunStore, compared: Mapping[int, str]) -> int | None:
    begun = run.begun()
    return begun[-1] if begun and begun[-1] not in compared else None


def _checkpoint_hashes(run: RunStore, last: int, say: Callable[[str], None]) -> dict[int, str]:
    """{step: params_sha256} of the sound checkpoints up to a step."""
    hashes = {}
    for step in run.steps():
        if step <= last:
            try:
                hashes[step] = run.checkpoint(step).meta["params_sha256"]
            except CheckpointError as error:
                say(f"note: not compared: {error}")
    return hashes


def _training_seconds(run: RunStore, step: int) -> float | None:
    try:
        lines = read_metrics(run.folder)
    except UserError:  # a damaged line: the replay is none the worse for it
        return None
    return next((line["seconds"] for line in lines if line.get("step") == step and "seconds" in line), None)
