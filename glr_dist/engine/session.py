"""From a config (and perhaps a model and data of the user's own) to a trained run: the Python door, ``glr_dist.train``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from glr_dist.config import PLACES, Config
from glr_dist.core.ambient import usual_torch
from glr_dist.core.losses import LOSSES, Loss
from glr_dist.core.own_code import refuse_untrusted
from glr_dist.core.threads import fixed_threads
from glr_dist.data.source import DataSource
from glr_dist.engine.async_evaluation import evaluated_beside
from glr_dist.engine.checks import refuse_changes, set_up, surrogate_card
from glr_dist.engine.crew import Crew, assemble_crew
from glr_dist.engine.diagnosis import Diagnosis
from glr_dist.engine.driver import Clock, Driver, Progress
from glr_dist.engine.recorder import Recorder
from glr_dist.engine.rehearsal import chosen_config
from glr_dist.engine.task import Task
from glr_dist.engine.telemetry import ray_metrics
from glr_dist.engine.trainer import Trainer
from glr_dist.engine.validation import SPLIT, validated
from glr_dist.errors import UserError
from glr_dist.runs.card import RunCard
from glr_dist.runs.code import gathered, hashes, named_code
from glr_dist.runs.record import extended, refuse_edited
from glr_dist.runs.run import CONFIG, RunStore, refuse_taken
from glr_dist.store.events import EventWriter, require_tensorboard
from glr_dist.store.journal import JournalWriter, estimate_bytes, most_bytes
from glr_dist.store.lock import Claim, written_alone
from glr_dist.store.metrics import MetricsWriter
from glr_dist.store.places import claimed
from glr_dist.store.signature import Signer
from glr_dist.store.storage import Storage
from glr_dist.workers.cluster import connected

Assemble = Callable[..., Crew]  # as `glr_dist.engine.crew.assemble_crew`
Preflight = Callable[[Config, str, DataSource], None]
Show = Callable[[Progress], None]
Say = Callable[[str], None]
_JOURNAL_LIMIT = 10**9  # bytes; `journal = "auto"` is on below


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a finished run reports; the keys of ``glr-dist train --json``."""

    run: str
    checkpoint: str
    steps: int
    seconds: float
    test_accuracy: float | None
    validation_accuracy: float | None
    noisy_forwards: int
    noisy_forwards_per_second: float
    bytes_up: int
    bytes_down: int
    params_sha256: str
    workers: int
    workers_lost: int
    journal: bool


@usual_torch()
def train(
    model: nn.Module | None = None,
    data: DataSource | None = None,
    config: Config | str = "digits-threshold",
    *,
    loss: Loss | None = None,
    run_dir: str | Path | None = None,
    seconds: float | None = None,
    journal_key: str | Path | None = None,
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
        seconds: wall-clock limit; training ends with a checkpoint when it is over.
        journal_key: a file with a key that signs the journal.
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
    session = _Session.of(chosen, model, data, loss)
    code = gathered(chosen, {"model": model, "loss": loss})
    with nullcontext(str(run_dir)) if run_dir is not None else claimed("runs/run") as place:
        refuse_taken(place)
        with session.crew(crew, preflight, place) as workers, written_alone(Storage.at(place), say) as claim:
            # files are written only now: a mistake above leaves nothing behind
            run = RunStore.create(place, chosen, session.card, signed=journal_key is not None, code=code)
            opened = _Opened(run, claim, run.signer(journal_key, writes=True), Clock())
            return session.work(opened, workers, seconds, show, say)


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
    given = {"model": model, "loss": loss}
    refuse_untrusted([text for part, text in named_code(config).items() if given[part] is None], str(run), trust_model)
    with written_alone(run.folder, say) as claim:
        then = run.card()
        session, clock = _Session.of(config, model, data, loss, run.code(then)), Clock()
        if then is not None:
            then.refuse_other(session.card, str(run))
            then.refuse_other_config(config, str(run))
            session = session.folding(then.fold)
        checkpoint = run.newest() if step is None else run.checkpoint(step)
        if checkpoint is not None:
            card = RunCard.read(checkpoint.meta, checkpoint.place)
            card.refuse_other(session.card, checkpoint.place)
            card.refuse_other_config(config, checkpoint.place)
            session.trainer.restore(checkpoint)
            clock = Clock.of(checkpoint)
        kept = _continued(run, before, {key: v for key, v in (overrides or {}).items() if key in (*PLACES, "steps")})
        with session.crew(crew, preflight, run.folder.uri) as workers:
            # folders are touched only now: a mistake above loses nothing
            run.rewind(session.trainer.step, signer, most_bytes(session.task.plan.losses_per_step))
            if kept != before:
                run.remember(kept)
            return session.work(_Opened(run, claim, signer, clock), workers, seconds, show, say)


def _continued(run: RunStore, before: Config, overrides: Mapping[str, Any]) -> Config:
    """The config that a run goes on with; refuses what would change its result, but for more steps."""
    now = run.config(overrides)
    refuse_changes(before, now, overrides.keys() - {"steps"})
    return now if now.steps == before.steps else extended(dataclasses.replace(now, steps=before.steps), now.steps)


@dataclass(frozen=True)
class _Opened:
    """A run that this process alone writes to."""

    store: RunStore
    claim: Claim
    signer: Signer | None  # of its journal
    clock: Clock  # of all its steps


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What one call of `train` or `resume` has to do."""

    config: Config
    task: Task
    trainer: Trainer
    card: RunCard

    @classmethod
    def of(
        cls,
        config: Config,
        model: nn.Module | None,
        data: DataSource | None,
        loss: Loss | None,
        code: Path | None = None,
    ) -> _Session:
        if config.tensorboard:
            require_tensorboard()
        trainer, task = set_up(config, model, data, loss, code)
        if config.evaluate_every and not task.data.count(SPLIT):
            raise UserError(
                "evaluate_every: checkpoints are evaluated on the validation split, and there is none; raise"
                " data.validation, or leave --evaluate-every out"
            )
        card = RunCard.of(
            config,
            task.data,
            fold=task.fold,
            surrogate=surrogate_card(task),
            own_model=model is not None,
            own_loss=loss is not None,
            code=hashes(gathered(config, {"model": model, "loss": loss}, code)),
        )
        return cls(config=config, task=task, trainer=trainer, card=card)

    def folding(self, fold: bool) -> _Session:
        """With copies as rows, or not, as the run began: the two ways may differ in the last bit."""
        task, card = dataclasses.replace(self.task, fold=fold), dataclasses.replace(self.card, fold=fold)
        return dataclasses.replace(self, task=task, card=card)

    @contextmanager
    def crew(self, assemble: Assemble, preflight: Preflight | None, place: str) -> Iterator[Crew]:
        """Within: who does the work, on a cluster that has passed its checks; torch has the run's threads."""
        engine, task = self.config.engine, self.task
        workers = engine.workers if task.method.observes else 0
        actors = workers or engine.reconstructors or engine.generators
        with ExitStack() as left:
            left.enter_context(fixed_threads(engine.threads))
            if actors or self.config.evaluate_every:
                left.enter_context(connected())
            if actors and preflight is not None:
                preflight(self.config, place, task.data)
            crew = assemble(task, engine)
            left.callback(crew.close)
            yield crew

    def work(self, run: _Opened, crew: Crew, seconds: float | None, show: Show, say: Say) -> TrainResult:
        """Train to the end, or until the time is over."""
        config, task, trainer, folder = self.config, self.task, self.trainer, run.store.folder
        journal = _journal(config, task, run, say)
        events = EventWriter(folder, trainer.step) if config.tensorboard else None
        with Recorder(MetricsWriter(folder), journal, events) as recorder, ExitStack() as beside:
            diagnosis = Diagnosis(task, config.diagnose_every, say)
            driver = Driver(config, task, trainer, folder, recorder, self.card.as_json(), run.clock, diagnosis)
            driver.may_write = run.claim.check
            if config.evaluate_every:
                seen = evaluated_beside(partial(validated, task), folder, recorder.evaluation, say)
                driver.look = beside.enter_context(seen)
            with ray_metrics(driver, crew):
                driver.train(crew, seconds=seconds, show=show)
        return self._result(driver, crew, journal is not None)

    def _result(self, driver: Driver, crew: Crew, journal: bool) -> TrainResult:
        validation, test = driver.measure("validation"), driver.measure("test")
        clock = driver.clock
        return TrainResult(
            run=str(driver.run),
            checkpoint=str(Storage.at(driver.checkpoint_path)),
            steps=driver.step,
            seconds=clock.seconds,
            test_accuracy=None if test is None else test.accuracy,
            validation_accuracy=None if validation is None else validation.accuracy,
            noisy_forwards=clock.noisy_forwards,
            noisy_forwards_per_second=clock.noisy_forwards / max(clock.seconds, 1e-9),
            bytes_up=clock.bytes_up,
            bytes_down=clock.bytes_down,
            params_sha256=self.trainer.params_sha256(),
            workers=crew.workers,
            workers_lost=crew.workers_lost,
            journal=journal,
        )


def _journal(config: Config, task: Task, run: _Opened, say: Say) -> JournalWriter | None:
    """Where losses go: nowhere for methods that observe none, when it is off, and, on ``auto``, when it would grow large."""
    if not task.method.observes or config.journal == "off":
        return None
    bits = task.loss is LOSSES["zero-one"] and all(kind.whole for kind, _ in task.plan.pieces)
    steps = (*config.schedule.legs, config.steps)[0]  # on or off as it began, however long it became
    size = estimate_bytes(steps, task.plan.losses_per_step, bits)
    if config.journal == "auto" and size >= _JOURNAL_LIMIT:
        say(f"journal off: it would take up to {size / 1e9:.1f} GB; --journal on writes it all the same")
        return None
    return JournalWriter(run.store.folder, bits=bits, signer=run.signer)
