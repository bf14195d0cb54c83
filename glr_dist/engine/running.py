"""One call of `glr_dist.train` or `resume` at work: what it has to do, the run that it writes to, who looks on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from glr_dist.config import Config
from glr_dist.core.device import exact_on, found_device
from glr_dist.core.losses import LOSSES, Loss, named_loss, per_batch
from glr_dist.core.threads import fixed_threads
from glr_dist.data.dataset import open_dataset
from glr_dist.data.source import DataSource
from glr_dist.engine.assembly import comes_later
from glr_dist.engine.async_evaluation import evaluated_beside
from glr_dist.engine.callbacks import Callback, Progress, TrainResult, announce
from glr_dist.engine.checks import set_up, surrogate_card
from glr_dist.engine.crew import Crew
from glr_dist.engine.diagnosis import Diagnosis
from glr_dist.engine.driver import Clock, Driver
from glr_dist.engine.fitting import fitted
from glr_dist.engine.handover import join_former
from glr_dist.engine.keeping import Best
from glr_dist.engine.outcome import conclude
from glr_dist.engine.recorder import Recorder
from glr_dist.engine.rehearsal import refuse_strangers
from glr_dist.engine.task import Task
from glr_dist.engine.telemetry import ray_metrics
from glr_dist.engine.trainer import Trainer
from glr_dist.engine.validation import SPLIT, validated
from glr_dist.errors import UserError
from glr_dist.models.spec import load_weights
from glr_dist.runs.card import RunCard
from glr_dist.runs.code import gathered, hashes
from glr_dist.runs.result import drop_result
from glr_dist.runs.run import RunStore
from glr_dist.store.checkpoint import load_checkpoint
from glr_dist.store.events import EventWriter, require_tensorboard
from glr_dist.store.journal import JournalWriter, estimate_bytes
from glr_dist.store.lock import Claim
from glr_dist.store.metrics import MetricsWriter, read_metrics
from glr_dist.store.signature import Signer
from glr_dist.workers.cluster import connected

Assemble = Callable[..., Crew]  # as `glr_dist.engine.assembly.assemble_crew`
Preflight = Callable[[Config, str, DataSource], None]
Show = Callable[[Progress], None]
Say = Callable[[str], None]
_JOURNAL_LIMIT = 10**9  # bytes; `journal = "auto"` is on below


@dataclass(frozen=True)
class Opened:
    """A run that this process alone writes to."""

    store: RunStore
    claim: Claim
    signer: Signer | None  # of its journal
    clock: Clock  # of all its steps


@dataclass(frozen=True)
class Watch:
    """Who looks on while a run goes on, and may end it."""

    seconds: float | None  # wall-clock limit
    show: Show
    say: Say
    callbacks: Sequence[Callback]
    command: str | None  # that was typed


@dataclass(frozen=True, kw_only=True)
class Session:
    """What one call of `train` or `resume` has to do."""

    config: Config
    task: Task
    trainer: Trainer
    card: RunCard
    code: Mapping[str, bytes]  # files of the user's own code

    @classmethod
    def of(
        cls,
        config: Config,
        model: nn.Module | None,
        data: DataSource | None,
        loss: Loss | None,
        kept: Path | None = None,
        say: Say = lambda line: None,
    ) -> Session:
        """What a config asks for; model, data and loss are the user's own where they are not None.

        ``kept``: the folder of a run's copy of the code that the config names; ``say`` is told what became of the config.
        """
        refuse_strangers(model, data, loss)
        if config.tensorboard:
            require_tensorboard()
        opened = data or open_dataset(config.data, kept and kept / "data")
        whole = per_batch(loss or named_loss(config.loss, kept and kept / "loss"))
        config = fitted(config, opened, whole, say)
        trainer, task = set_up(config, model, opened, loss, kept)
        for key, what in (("evaluate_every", "checkpoints are evaluated"), ("patience", "it counts measurements")):
            if getattr(config, key) and not task.data.count(SPLIT):
                raise UserError(
                    f"{key}: {what} on the validation split, and there is none; raise data.validation, or leave"
                    f" --{key.replace('_', '-')} out"
                )
        code = gathered(config, {"model": model, "loss": loss, "data": data}, kept)
        card = RunCard.of(
            config,
            task.data,
            fold=task.fold,
            surrogate=surrogate_card(task),
            own_model=model is not None,
            own_loss=loss is not None,
            code=hashes(code),
        )
        return cls(config=config, task=task, trainer=trainer, card=card, code=code)

    def going_on(self, then: RunCard) -> Session:
        """As the run began: with its initial weights, and copies as rows or not, as the two may differ in the last bit."""
        card = dataclasses.replace(self.card, fold=then.fold, initial=then.initial)
        return dataclasses.replace(self, task=dataclasses.replace(self.task, fold=then.fold), card=card)

    def initialised(self, place: str | Path) -> Session:
        """With the weights of a checkpoint; the optimizer begins anew."""
        try:
            checkpoint = load_checkpoint(place, training=False)
            load_weights(self.trainer.model, checkpoint.weights, checkpoint.place)
        except UserError as error:
            raise UserError(f"--init-from: {error}") from error
        initial = {"checkpoint": checkpoint.place, "step": checkpoint.step}
        initial["params_sha256"] = checkpoint.meta["params_sha256"]
        return dataclasses.replace(self, card=dataclasses.replace(self.card, initial=initial))

    @contextmanager
    def crew(self, assemble: Assemble, preflight: Preflight | None, place: str, say: Say) -> Iterator[Crew]:
        """Within: who does the work, on a cluster that has passed its checks; torch has the run's threads."""
        engine, task = self.config.engine, self.task
        workers = engine.workers if task.method.observes and not engine.alone_on_gpu else 0
        join_former()
        later = not self.config.evaluate_every and comes_later(task, engine)
        actors = not later and (workers or engine.reconstructors or engine.generators)
        with ExitStack() as left:
            left.enter_context(fixed_threads(engine.threads))
            left.enter_context(exact_on(found_device("cuda" if engine.alone_on_gpu else "cpu")))
            if actors or self.config.evaluate_every:
                left.enter_context(connected())
            if actors and preflight is not None:
                preflight(self.config, place, task.data)
            crew = assemble(task, engine)
            crew.say, crew.steps = say, self.config.steps
            left.callback(crew.close)
            yield crew

    def work(self, run: Opened, crew: Crew, watch: Watch) -> TrainResult:
        """Train to the end, or until somebody ends it."""
        config, task, trainer, folder, say = self.config, self.task, self.trainer, run.store.folder, watch.say
        drop_result(folder)  # of the run as it was
        crew.until = None if watch.seconds is None else time.monotonic() + watch.seconds
        journal = _journal(config, task, run, say)
        events = EventWriter(folder, trainer.step) if config.tensorboard else None
        with Recorder(MetricsWriter(folder), journal, events) as recorder, ExitStack() as beside:
            diagnosis = Diagnosis(task, config.diagnose_every, say)
            driver = Driver(config, task, trainer, folder, recorder, self.card.as_json(), run.clock, diagnosis)
            driver.may_write, driver.callbacks = run.claim.check, watch.callbacks
            driver.best = Best.of(read_metrics(folder))
            if self.card.initial is not None and not trainer.step:
                driver.checkpoint()  # of the weights that it begins from
            for callback in watch.callbacks:
                callback.on_start(str(folder), config)
            if config.evaluate_every:
                seen = evaluated_beside(partial(validated, task), folder, recorder.evaluation, say)
                driver.look = beside.enter_context(seen)
            with ray_metrics(driver, crew):
                driver.train(crew, seconds=watch.seconds, show=watch.show)
        announce(watch.callbacks, "measuring the network")
        result = conclude(driver, crew, self.card, journal=journal is not None, command=watch.command)
        for callback in watch.callbacks:
            callback.on_end(result)
        return result


def _journal(config: Config, task: Task, run: Opened, say: Say) -> JournalWriter | None:
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
