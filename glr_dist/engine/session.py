"""From a config (and perhaps a model and data of the user's own) to a trained run: the Python door, ``glr_dist.train``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from glr_dist.config import Config, config_toml, load_config, parse_config
from glr_dist.core.losses import LOSSES, Loss
from glr_dist.core.threads import fixed_threads
from glr_dist.data.source import DataSource
from glr_dist.engine.async_evaluation import refuse_without_split, spectated
from glr_dist.engine.checks import set_up
from glr_dist.engine.crew import Crew, assemble_crew
from glr_dist.engine.driver import Clock, Driver, Progress
from glr_dist.engine.task import Task
from glr_dist.engine.telemetry import ray_metrics
from glr_dist.errors import UserError
from glr_dist.models.spec import refuse_untrusted
from glr_dist.runs.card import record, recorded, refuse_other, restore, run_meta
from glr_dist.runs.rewind import rewind
from glr_dist.runs.run import create_run, open_run, refuse_taken
from glr_dist.store.checkpoint import load_checkpoint, params_sha256
from glr_dist.store.events import EventWriter, require_tensorboard
from glr_dist.store.journal import JournalWriter, estimate_bytes
from glr_dist.store.places import dated
from glr_dist.store.storage import Storage
from glr_dist.workers.cluster import connect

_JOURNAL_LIMIT = 10**9  # bytes; `journal = "auto"` is on below


# what a resumed run may change without changing a bit of its result
_FREE_KEYS = (
    "engine.workers",
    "engine.reconstructors",
    "engine.generators",
    "engine.in_flight",
    "data.root",
    "data.cache",
    "evaluate_every",
    "augment.surrogate",  # its place; its content is compared
)


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


def train(
    model: nn.Module | None = None,
    data: DataSource | None = None,
    config: Config | str = "digits-threshold",
    *,
    loss: Loss | None = None,
    run_dir: str | Path | None = None,
    seconds: float | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> TrainResult:
    """Train a network from loss values alone.

    Args:
        model: any module that maps [B, ...] to [B, classes]; what ``config.model`` describes when None. Trained in place.
        data: what ``config.data`` describes when None; `glr_dist.data.arrays.ArrayDataset` wraps your own arrays.
        config: a Config, or the name of a preset or TOML file.
        loss: a per-example loss ``(logits [B, C], labels [B]) -> [B]`` in place of ``config.loss``; needs no derivative.
        run_dir: the run's new folder; ``runs/run-DATE-TIME`` when None.
        seconds: wall-clock limit; training ends with a checkpoint when it is over.
        show: called after every step.
        say: told in a line what is decided on the way, such as that the journal is off.

    Returns:
        Where the run lies, and how good it is.

    Raises:
        UserError: for whatever in the arguments can't be.
        KeyboardInterrupt: after a checkpoint, when the user interrupted.
    """
    chosen = load_config(config) if isinstance(config, str) else config
    chosen.check()
    return _train(chosen, model, data, loss, run_dir, None, seconds, show, say)


def resume(
    run_dir: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    trust_model: bool = False,
    model: nn.Module | None = None,
    data: DataSource | None = None,
    loss: Loss | None = None,
    seconds: float | None = None,
    show: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> TrainResult:
    """Continue an interrupted run from its newest checkpoint; ends bit for bit where the uninterrupted run would.

    Args:
        run_dir: the run's folder, or one of its checkpoints to go back to.
        overrides: keys to change: how many workers there are, where data and surrogate lie, who looks on.
        trust_model: import and run the ``model.factory`` that the run's config names.
        model: the model that was passed to `train`, if one was.
        data: the data passed to `train`, if any were.
        loss: the loss that was passed to `train`, if one was.
        seconds: wall-clock limit of this call.
        show: called after every step.
        say: told in a line what is decided on the way.

    Raises:
        UserError: when it is no run, has no sound checkpoint, or other model, data or keys are given.
    """
    run, point = _run_and_checkpoint(run_dir)
    run, text = open_run(run.uri)
    config = parse_config(text, overrides, source=f"{run}/config.toml")
    for key in overrides or {}:
        if key not in _FREE_KEYS:
            raise UserError(f"{key}: can't change when a run is resumed; start a new run, or leave it out")
    if model is None:
        refuse_untrusted(config.model.kind, config.model.factory, str(run), trust_model)
    return _train(config, model, data, loss, None, (run, point), seconds, show, say)


def _train(
    config: Config,
    model: nn.Module | None,
    data: DataSource | None,
    loss: Loss | None,
    run_dir: str | Path | None,
    resumed: tuple[Storage, Storage | None] | None,
    seconds: float | None,
    show: Callable[[Progress], None],
    say: Callable[[str], None],
) -> TrainResult:
    if config.tensorboard:
        require_tensorboard()
    own_model = model is not None
    model, task, optimizer, schedule = set_up(config, model, data, loss)
    if config.evaluate_every:
        refuse_without_split(task)
    meta = run_meta(config, task, own_model=own_model, own_loss=loss is not None)
    first, clock = 0, Clock()
    if resumed is None:
        run_dir = run_dir or dated("runs/run")
        refuse_taken(run_dir)
    else:
        run, point = resumed
        before = recorded(run)
        if before is not None:
            refuse_other(before, meta, str(run))
        if point is not None:
            checkpoint = load_checkpoint(point)
            restore(checkpoint, meta, model, optimizer, schedule)
            before, first, clock = checkpoint.meta, checkpoint.step, Clock(**checkpoint.meta["clock"])
        if before is not None:  # decided once for a run: the two ways may differ in the last bit
            task = dataclasses.replace(task, fold=before["fold"])
            meta["fold"] = before["fold"]
    place = str(run_dir) if resumed is None else run.uri
    with fixed_threads(config.engine.threads), _crew(config, task, place) as crew, ExitStack() as watched:
        # folders are touched only now: a mistake above leaves nothing behind, and loses nothing
        if resumed is None:
            run = create_run(run_dir or "", config_toml(config))
            record(run, meta)
        else:
            rewind(run, first)
        journal = _journal(config, task, run, say)
        look = watched.enter_context(spectated(task, run, say)) if config.evaluate_every else _unseen
        driver = Driver(
            model,
            task,
            optimizer,
            schedule,
            run,
            meta=meta,
            journal=journal,
            events=EventWriter(run, first) if config.tensorboard else None,
            validate_every=config.validate_every,
            checkpoint_every=config.checkpoint_every,
            first_step=first,
            clock=clock,
            evaluate_every=config.evaluate_every,
            look=look,
        )
        with ray_metrics(driver, crew):
            driver.train(crew, config.steps, seconds=seconds, show=show)
        validation, test = driver.measure("validation"), driver.measure("test")
        return TrainResult(
            run=str(run),
            checkpoint=str(Storage.at(driver.checkpoint_path)),
            steps=driver.step,
            seconds=driver.clock.seconds,
            test_accuracy=None if test is None else test.accuracy,
            validation_accuracy=None if validation is None else validation.accuracy,
            noisy_forwards=driver.clock.noisy_forwards,
            noisy_forwards_per_second=driver.clock.noisy_forwards / max(driver.clock.seconds, 1e-9),
            bytes_up=driver.clock.bytes_up,
            bytes_down=driver.clock.bytes_down,
            params_sha256=params_sha256(model.state_dict()),
            workers=crew.workers,
            workers_lost=crew.workers_lost,
            journal=journal is not None,
        )


def _unseen(checkpoint: str) -> None:
    """Nobody evaluates checkpoints beside the run."""


def _run_and_checkpoint(place: str | Path) -> tuple[Storage, Storage | None]:
    """The run that is resumed and where it starts: at a checkpoint, or, when it has none yet, at its beginning."""
    storage = Storage.at(place)
    if storage.parent().name == "checkpoints":
        return storage.parent().parent(), storage
    return storage, storage if storage.list("checkpoints") else None


def _journal(config: Config, task: Task, run: Storage, say: Callable[[str], None]) -> JournalWriter | None:
    if not task.method.observes or config.journal == "off":
        return None
    bits = task.loss is LOSSES["zero-one"]
    size = estimate_bytes(config.steps, task.plan.losses_per_step, bits)
    if config.journal == "auto" and size >= _JOURNAL_LIMIT:
        say(f"journal off: it would take up to {size / 1e9:.1f} GB; --journal on writes it all the same")
        return None
    return JournalWriter(run, bits=bits)


@contextmanager
def _crew(config: Config, task: Task, place: str) -> Iterator[Crew]:
    """The run's crew, on a cluster that has passed its checks."""
    engine = config.engine
    workers = engine.workers if task.method.observes else 0
    actors = workers or engine.reconstructors or engine.generators
    connected_here = connect() if actors or config.evaluate_every else False
    try:
        if actors:
            _check_nodes(config, task, place)
        crew = assemble_crew(task, engine)
        try:
            yield crew
        finally:
            crew.close()
    finally:
        if connected_here:
            import ray

            ray.shutdown()


def _check_nodes(config: Config, task: Task, place: str) -> None:
    """On more than one node: refuse what would fail later, and show the table that says so."""
    import ray

    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return
    from glr_dist.launch.node_report import show_reports
    from glr_dist.launch.preflight import preflight, refuse

    reports = preflight(config, place, data=task.data)
    show_reports(reports, to_stderr=True)
    refuse(reports, config)
