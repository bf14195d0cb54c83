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

import numpy as np
import torch
from torch import nn

from glr_dist.config import Config
from glr_dist.core.losses import Loss
from glr_dist.core.threads import fixed_threads
from glr_dist.data.source import DataSource
from glr_dist.engine.checks import set_up, surrogate_card
from glr_dist.engine.crew import Crew
from glr_dist.engine.driver import Progress
from glr_dist.engine.journalled import JournalledLosses
from glr_dist.engine.reconstructor import Reconstructor
from glr_dist.errors import UserError
from glr_dist.models.spec import refuse_untrusted
from glr_dist.runs.card import DataCard, RunCard
from glr_dist.runs.run import RunStore
from glr_dist.store.checkpoint import CheckpointError
from glr_dist.store.journal import JournalReader
from glr_dist.store.metrics import read_metrics
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
    trainer, last = replayer.trainer, replayer.checked_step(to)
    hashes = _checkpoint_hashes(replayer.run, last, say)
    differing = [step for step in hashes if step == 0 and trainer.params_sha256() != hashes[step]]
    started = time.monotonic()
    with fixed_threads(replayer.config.engine.threads):
        while trainer.step < last:
            losses = replayer.advance()
            if trainer.step in hashes and trainer.params_sha256() != hashes[trainer.step]:
                differing.append(trainer.step)
            show(replayer.progress(last, losses, time.monotonic() - started))
    return ReplayResult(
        run=str(replayer.run),
        step=last,
        params_sha256=trainer.params_sha256(),
        compared=tuple(hashes),
        equal=not differing if hashes else None,
        first_difference=differing[0] if differing else None,
        seconds=time.monotonic() - started,
        training_seconds=_training_seconds(replayer.run, last),
        model=trainer.model,
    )


class Replayer:
    """A run that is done again step by step, with the journal in the evaluators' place.

    Attributes:
        run: the run's folder.
        config: its config.
        task: what was trained.
        trainer: at the step that the replay has come to.
        table: the noise table, or None.
        journal: answers with the losses that were observed.
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
    ) -> None:
        """Open a run and its journal, at the initial parameters; the arguments are those of `replay`.

        Raises:
            UserError: as `replay`.
        """
        self.run, _ = RunStore.at(run_dir)
        moved = {"data.root": data_root, "augment.surrogate": surrogate}
        self.config = self.run.config({key: place for key, place in moved.items() if place is not None})
        self._reader = JournalReader(self.run.folder)
        _refuse_empty(self.run, self.config, self._reader)
        self.card = self.run.card()
        _refuse_unknown_model(self.run, self.config, self.card, model, trust_model)
        self.trainer, self.task = set_up(self.config, model, data, loss)
        if self.card is not None:
            source = DataCard.of(self.config, self.task.data), surrogate_card(self.task)
            self.card.refuse_other_source(*source, str(self.run))
            self.task = dataclasses.replace(self.task, fold=self.card.fold)
        self.table = self.task.make_table()
        self.journal = JournalledLosses(self.task.plan, self._reader)
        engine = self.config.engine
        device = device_of(self.run, gpus=bool(engine.gpus_per_worker and engine.reconstructors))
        reconstructor = Reconstructor(self.task, self.table, device)
        self._crew = Crew(self.task, LocalPool(self.journal), LocalPool(reconstructor))

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

    def advance(self) -> Sequence[np.ndarray]:
        """Do one step.

        Returns:
            The losses that it learnt from.

        Raises:
            JournalError: when the journal does not hold this step's units.
        """
        return self.trainer.advance(self._crew).losses

    def progress(self, last: int, losses: Sequence[np.ndarray], seconds: float) -> Progress:
        """What a display needs to know after a step, ``seconds`` after the first began."""
        return Progress(
            step=self.trainer.step,
            steps=last,
            loss=float(np.mean([value.mean() for value in losses])),
            validation=None,
            noisy_forwards_per_second=0.0,
            seconds_left=(last - self.trainer.step) * seconds / self.trainer.step,
        )


def device_of(run: RunStore, *, gpus: bool) -> str:
    """The kind of device that a role ran on in the training, which must be here too: the bits depend on it.

    Raises:
        UserError: when it is a GPU, and this machine has none.
    """
    if gpus and not torch.cuda.is_available():
        raise UserError(
            f"{run}: was trained on GPUs, whose arithmetic no CPU has; use a machine with a GPU of that kind"
        )
    return "cuda" if gpus else "cpu"


def _refuse_empty(run: RunStore, config: Config, reader: JournalReader) -> None:
    if not config.observes:
        raise UserError(
            f"{run}: method = {config.method!r} observes no losses: nothing is journalled, nothing to replay"
        )
    if not reader.steps():
        raise UserError(f"{run}: has no journal: it was trained with --journal off, or has not come to its first block")


def _refuse_unknown_model(
    run: RunStore, config: Config, card: RunCard | None, model: nn.Module | None, trust_model: bool
) -> None:
    if model is not None:
        return
    if card is not None and card.model is None:
        raise UserError(
            f"{run}: its model was built by Python code; give it there, with its initial parameters:"
            " glr_dist.engine.replay.replay(run, model=...)"
        )
    refuse_untrusted(config.model.kind, config.model.factory, str(run), trust_model)


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
