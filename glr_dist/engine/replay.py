"""Replay: a run's parameters after any step, from its initial ones and its journal alone, bit for bit.

The crew of the training works again, with the journal in the evaluators' place: it answers every unit with the losses
that were observed. The reconstructor draws the noise again from the unit's seed. No loss is evaluated.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from glr_dist.config import Config, parse_config
from glr_dist.core.losses import Loss
from glr_dist.core.parameters import flat_parameters
from glr_dist.core.threads import fixed_threads
from glr_dist.data.source import DataSource
from glr_dist.engine.checks import set_up
from glr_dist.engine.crew import Crew
from glr_dist.engine.driver import Progress
from glr_dist.engine.journalled import JournalledLosses
from glr_dist.engine.optimization import assign_gradient
from glr_dist.engine.reconstructor import Reconstructor
from glr_dist.errors import UserError
from glr_dist.models.spec import refuse_untrusted
from glr_dist.runs.card import (
    data_identity,
    recorded,
    refuse_other_data,
    refuse_other_surrogate,
    surrogate_identity,
)
from glr_dist.runs.run import open_run
from glr_dist.store.checkpoint import CheckpointError, checkpoint_steps, load_checkpoint, params_sha256
from glr_dist.store.journal import JournalReader
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage
from glr_dist.workers.pool import LocalPool


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """What a replay gave; its keys but ``model`` are those of ``glr-dist replay --json``.

    Attributes:
        run: the run's folder.
        step: the step whose parameters these are.
        params_sha256: of them, as a checkpoint has it.
        compared: the steps up to this one that have a sound checkpoint.
        equal: whether they all have the replayed parameters; None when there were none to compare with.
        first_difference: the first that has others.
        seconds: the replay took.
        training_seconds: the training took to get to this step; None where the run does not tell.
        model: the network, with the replayed parameters in it.
    """

    run: str
    step: int
    params_sha256: str
    compared: tuple[int, ...]
    equal: bool | None
    first_difference: int | None
    seconds: float
    training_seconds: float | None
    model: nn.Module = field(repr=False)


def replay(
    run_dir: str | Path,
    to: int | None = None,
    *,
    model: nn.Module | None = None,
    data: DataSource | None = None,
    data_root: str | None = None,
    surrogate: str | None = None,
    trust_model: bool = False,
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
        show: called after every step.
        say: told in a line about checkpoints that are damaged.

    Raises:
        UserError: when it is no run, has no journal or not this step, or other data or another model are given.
    """
    replayer = Replayer(
        run_dir, model=model, data=data, data_root=data_root, surrogate=surrogate, trust_model=trust_model
    )
    last = replayer.checked_step(to)
    hashes = _checkpoint_hashes(replayer.run, last, say)
    differing = [step for step in hashes if step == 0 and replayer.params_sha256() != hashes[step]]
    started = time.monotonic()
    with fixed_threads(replayer.config.engine.threads):
        while replayer.step < last:
            losses = replayer.advance()
            if replayer.step in hashes and replayer.params_sha256() != hashes[replayer.step]:
                differing.append(replayer.step)
            show(replayer.progress(last, losses, time.monotonic() - started))
    return ReplayResult(
        run=str(replayer.run),
        step=last,
        params_sha256=replayer.params_sha256(),
        compared=tuple(hashes),
        equal=not differing if hashes else None,
        first_difference=differing[0] if differing else None,
        seconds=time.monotonic() - started,
        training_seconds=_training_seconds(replayer.run, last),
        model=replayer.model,
    )


class Replayer:
    """A run that is done again step by step; `step` tells how many are done."""

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
    ) -> None:
        """Open a run and its journal, at the initial parameters; the arguments are those of `replay`.

        Raises:
            UserError: as `replay`.
        """
        self.run, text = open_run(run_dir)
        moved = {"data.root": data_root, "augment.surrogate": surrogate}
        overrides = {key: place for key, place in moved.items() if place is not None}
        self.config = parse_config(text, overrides, source=f"{self.run}/config.toml")
        self.reader = JournalReader(self.run)
        _refuse_empty(self.run, self.config, self.reader)
        self.meta = _newest_meta(self.run)
        _refuse_unknown_model(self.run, self.config, self.meta, model, trust_model)
        self.model, self.task, self._optimizer, self._schedule = set_up(self.config, model, data, loss)
        told = recorded(self.run) or self.meta
        if told is not None:
            refuse_other_data(told, {"data": data_identity(self.task.data)}, str(self.run))
            refuse_other_surrogate(told, {"surrogate": surrogate_identity(self.task)}, str(self.run))
            self.task = dataclasses.replace(self.task, fold=told["fold"])
        self.table = self.task.make_table()
        self.journal = JournalledLosses(self.task.plan, self.reader)
        engine = self.config.engine
        device = device_of(self.run, gpus=bool(engine.gpus_per_worker and engine.reconstructors))
        pools = LocalPool(self.journal), LocalPool(Reconstructor(self.task, self.table, device))
        self._crew = Crew(self.task, *pools)
        self.step = 0

    def checked_step(self, to: int | None) -> int:
        """The step to go to; None means the journal's last.

        Raises:
            UserError: when the journal does not reach so far.
        """
        last = self.reader.steps()[-1]
        if to is None:
            return last
        if not 0 <= to <= last:
            raise UserError(f"--to {to}: the journal of {self.run} holds steps 1 to {last}; choose one of them")
        return to

    def parameters(self) -> np.ndarray:
        """All parameters as they are now, a flat float32 vector of its own."""
        return flat_parameters(self.model).numpy()

    def params_sha256(self) -> str:
        """Of the parameters as they are now, as a checkpoint has it."""
        return params_sha256(self.model.state_dict())

    def advance(self) -> Sequence[np.ndarray]:
        """Do one step.

        Returns:
            The losses that it learnt from.

        Raises:
            JournalError: when the journal does not hold this step's units.
        """
        result = self._crew.gradient(self.parameters(), self.step)
        assign_gradient(list(self.task.trainable.values()), result.gradient, self.step)
        self._optimizer.step()
        self._schedule.step()
        self.step += 1
        return result.losses

    def progress(self, last: int, losses: Sequence[np.ndarray], seconds: float) -> Progress:
        """What a display needs to know after a step, ``seconds`` after the first began."""
        return Progress(
            step=self.step,
            steps=last,
            loss=float(np.mean([value.mean() for value in losses])),
            validation=None,
            noisy_forwards_per_second=0.0,
            seconds_left=(last - self.step) * seconds / self.step,
        )


def device_of(run: Storage, *, gpus: bool) -> str:
    """The kind of device that a role ran on in the training, which must be here too: the bits depend on it.

    Raises:
        UserError: when it is a GPU, and this machine has none.
    """
    if gpus and not torch.cuda.is_available():
        raise UserError(
            f"{run}: was trained on GPUs, whose arithmetic no CPU has; use a machine with a GPU of that kind"
        )
    return "cuda" if gpus else "cpu"


def _refuse_empty(run: Storage, config: Config, reader: JournalReader) -> None:
    if not config.observes:
        raise UserError(
            f"{run}: method = {config.method!r} observes no losses: nothing is journalled, nothing to replay"
        )
    if not reader.steps():
        raise UserError(f"{run}: has no journal: it was trained with --journal off, or has not come to its first block")


def _newest_meta(run: Storage) -> dict[str, Any] | None:
    """What the newest sound checkpoint says of the run, None where there is none."""
    for step in reversed(checkpoint_steps(run)):
        try:
            return load_checkpoint(run.folder(f"checkpoints/step-{step:06d}")).meta
        except CheckpointError:
            continue
    return None


def _refuse_unknown_model(
    run: Storage, config: Config, meta: dict[str, Any] | None, model: nn.Module | None, trust_model: bool
) -> None:
    if model is not None:
        return
    if meta is not None and meta["model"]["kind"] == "custom":
        raise UserError(
            f"{run}: its model was built by Python code; give it there, with its initial parameters:"
            " glr_dist.engine.replay.replay(run, model=...)"
        )
    refuse_untrusted(config.model.kind, config.model.factory, str(run), trust_model)


def _checkpoint_hashes(run: Storage, last: int, say: Callable[[str], None]) -> dict[int, str]:
    """{step: params_sha256} of the sound checkpoints up to a step."""
    hashes = {}
    for step in checkpoint_steps(run):
        if step <= last:
            try:
                hashes[step] = load_checkpoint(run.folder(f"checkpoints/step-{step:06d}")).meta["params_sha256"]
            except CheckpointError as error:
                say(f"note: not compared: {error}")
    return hashes


def _training_seconds(run: Storage, step: int) -> float | None:
    try:
        lines = read_metrics(run)
    except UserError:  # a damaged line: the replay is none the worse for it
        return None
    return next((line.get("seconds") for line in lines if line.get("step") == step), None)
