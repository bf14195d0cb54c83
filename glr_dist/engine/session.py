"""From a config (and perhaps a model and data of the user's own) to a trained run: the Python door, ``glr_dist.train``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from glr_dist.config import PLACES, Config
from glr_dist.core.ambient import usual_torch
from glr_dist.core.losses import Loss
from glr_dist.core.own_code import refuse_untrusted
from glr_dist.data.source import DataSource
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.callbacks import Callback, TrainResult, announce
from glr_dist.engine.checks import refuse_changes
from glr_dist.engine.driver import Clock
from glr_dist.engine.outcome import recorded_result
from glr_dist.engine.rehearsal import chosen_config
from glr_dist.engine.running import Assemble, Opened, Preflight, Say, Session, Show, Watch
from glr_dist.runs.card import RunCard
from glr_dist.runs.code import named_code
from glr_dist.runs.record import extended, refuse_edited
from glr_dist.runs.run import CONFIG, RunStore, refuse_taken
from glr_dist.store.journal import most_bytes
from glr_dist.store.lock import written_alone
from glr_dist.store.places import claimed
from glr_dist.store.signature import Signer
from glr_dist.store.storage import Storage

PREPARING, STARTING = "opening data and network", "starting workers"


@usual_torch()
def train(
    model: nn.Module | None = None,
    data: DataSource | None = None,
    config: Config | str = "digits-threshold",
    *,
    loss: Loss | None = None,
    run_dir: str | Path | None = None,
    init_from: str | Path | None = None,
    seconds: float | None = None,
    journal_key: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    command: str | None = None,
    show: Show = lambda progress: None,
    say: Say = lambda line: print(line, file=sys.stderr),
    crew: Assemble = assemble_crew,
    preflight: Preflight | None = None,
) -> TrainResult:
    """Train a network from loss values alone.

    Args:
        model: any module that maps [B, ...] to [B, classes]; what ``config.model`` describes when None. Trained in place.
        data: what ``config.data`` describes when None; `glr_dist.data.arrays.ArrayDataset` wraps your own arrays.
        config: a Config, or the name of a preset or TOML file.
        loss: a per-example loss ``(logits [B, C], labels [B]) -> [B]`` in place of ``config.loss``; needs no derivative.
        run_dir: the run's new folder; ``runs/run-DATE-TIME`` when None.
        init_from: a checkpoint, or a run, whose newest one it means, with the initial weights; they are kept in the run.
        seconds: wall-clock limit; training ends with a checkpoint when it is over.
        journal_key: a file with a key that signs the journal.
        callbacks: watch the run, and may end it.
        command: what was typed, for result.json; that of this process when None.
        show: called after every step.
        say: told in a line what is decided on the way, such as that the journal is off.
        crew: assembles who does the work.
        preflight: given config, run folder and data before actors start on a cluster; refuses what would fail later.

    Raises:
        UserError: for whatever in the arguments can't be.
        KeyboardInterrupt: after a checkpoint, when the user interrupted.
    """
    chosen = chosen_config(config)
    if journal_key is not None:
        Signer.read(journal_key, "")
    announce(callbacks, PREPARING)
    session = Session.of(chosen, model, data, loss, say=say)
    if init_from is not None:
        session = session.initialised(init_from)
    with nullcontext(str(run_dir)) if run_dir is not None else claimed("runs/run") as place:
        refuse_taken(place)
        announce(callbacks, STARTING)
        with session.crew(crew, preflight, place, say) as workers, written_alone(Storage.at(place), say) as claim:
            # files are written only now: a mistake above leaves nothing behind
            run = RunStore.create(
                place, session.config, session.card, signed=journal_key is not None, code=session.code
            )
            opened = Opened(run, claim, run.signer(journal_key, writes=True), Clock())
            return session.work(opened, workers, Watch(seconds, show, say, callbacks, command))


@usual_torch()
def resume(
    run_dir: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    trust_model: bool = False,
    model: nn.Module | None = None,
    data: DataSource | None = None,
    loss: Loss | None = None,
    seconds: float | None = None,
    journal_key: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    command: str | None = None,
    show: Show = lambda progress: None,
    say: Say = lambda line: print(line, file=sys.stderr),
    crew: Assemble = assemble_crew,
    preflight: Preflight | None = None,
) -> TrainResult:
    """Continue an interrupted run from its newest checkpoint; ends bit for bit where the uninterrupted run would.

    ``run_dir`` is the run's folder, or one of its checkpoints to go back to. ``overrides`` may change how many workers there
    are, where data and surrogate lie, who looks on; more ``steps`` extend the run, through its schedule once more.
    ``trust_model`` lets the ``model.factory`` that the run's config names be imported. Model, data and loss are those that
    were passed to `train`, if they were; the rest is as for `train`.

    Raises:
        UserError: when it is no run, has no sound checkpoint, or other model, data or keys are given.
    """
    run, step = RunStore.at(run_dir)
    before = run.config()
    refuse_edited(run.changes(before), f"{run}/{CONFIG}")
    config = _continued(run, before, overrides or {})
    signer = run.signer(journal_key, writes=True)
    given = {"model": model, "loss": loss, "data": data}
    refuse_untrusted([text for part, text in named_code(config).items() if given[part] is None], str(run), trust_model)
    if step is None and config.steps == before.steps and (finished := _finished(run, say)) is not None:
        return finished
    announce(callbacks, PREPARING)
    with written_alone(run.folder, say) as claim:
        then = run.card()
        session, clock = Session.of(config, model, data, loss, run.code(then)), Clock()
        if then is not None:
            then.refuse_other(session.card, str(run))
            then.refuse_other_config(config, str(run))
            session = session.going_on(then)
        checkpoint = run.newest() if step is None else run.checkpoint(step)
        if checkpoint is not None:
            card = RunCard.read(checkpoint.meta, checkpoint.place)
            card.refuse_other(session.card, checkpoint.place)
            card.refuse_other_config(config, checkpoint.place)
            session.trainer.restore(checkpoint)
            clock = Clock.of(checkpoint)
        kept = _continued(run, before, {key: v for key, v in (overrides or {}).items() if key in (*PLACES, "steps")})
        announce(callbacks, STARTING)
        with session.crew(crew, preflight, run.folder.uri, say) as workers:
            # folders are touched only now: a mistake above loses nothing
            run.rewind(session.trainer.step, signer, most_bytes(session.task.plan.losses_per_step))
            if kept != before:
                run.remember(kept)
            opened = Opened(run, claim, signer, clock)
            return session.work(opened, workers, Watch(seconds, show, say, callbacks, command))


def _finished(run: RunStore, say: Say) -> TrainResult | None:
    """What a run has come to that has nothing left to do, and is sound; None where it has."""
    finished = recorded_result(run)
    if finished is not None:
        run.newest()  # raises if it is damaged
        say(f"{run} is finished: it has done its {finished.steps} steps; for more give --resume {run} --steps N")
    return finished


def _continued(run: RunStore, before: Config, overrides: Mapping[str, Any]) -> Config:
    """The config that a run goes on with; refuses what would change its result, but for more steps."""
    now = run.config(overrides)
    refuse_changes(before, now, overrides.keys() - {"steps"})
    return now if now.steps == before.steps else extended(dataclasses.replace(now, steps=before.steps), now.steps)
