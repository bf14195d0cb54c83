"""The Python door ``glr_dist.tune``: from a config and a time to a better config, chosen by validation accuracy alone."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch import nn

from glr_dist.config import Config, config_toml, load_config
from glr_dist.core.losses import Loss, named_loss, per_batch
from glr_dist.core.threads import fixed_threads
from glr_dist.data.dataset import open_dataset
from glr_dist.data.source import DataSource
from glr_dist.engine.checks import set_up
from glr_dist.engine.fitting import fitted
from glr_dist.engine.interrupts import held_interrupts
from glr_dist.engine.validation import SPLIT
from glr_dist.errors import UserError
from glr_dist.store.places import dated
from glr_dist.store.storage import Storage
from glr_dist.tuning.halving import Halving, chosen, trial_lengths
from glr_dist.tuning.ray_tune import require_ray_tune, tune_on_ray
from glr_dist.tuning.space import Space, Tries, value_of, with_values
from glr_dist.tuning.trials import Bench, Interrupted, Tell, Trial

Show = Callable[[Trial, Trial | None, float], None]
MOST_CONFIGS = 10_000


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """What a tuning found.

    Attributes:
        config: the best one, as written to ``out``.
        best: its trial; number 0 if none was better than the config as given.
        start: the trial of the config as given; None if it was cut short.
        trials: all, as they ended.
        out: the TOML file.
        log: what was tried, as JSON lines beside it.
        seconds: in all.
        interrupted: whether the user cut it short.
    """

    config: Config
    best: Trial
    start: Trial | None
    trials: tuple[Trial, ...]
    out: str
    log: str
    seconds: float
    interrupted: bool


def tune(
    model: nn.Module | None = None,
    data: DataSource | None = None,
    config: Config | str = "digits-threshold",
    *,
    seconds: float,
    loss: Loss | None = None,
    tries: Tries | None = None,
    configs: int = MOST_CONFIGS,
    workers: int = 0,
    out: str | Path | None = None,
    show: Show = lambda trial, best, gone: None,
) -> TuneResult:
    """Find noise scale, copies or base draws, and learning rate by short trainings; write the best config as TOML.

    Args:
        model: as for `glr_dist.train`, but left as it is.
        data: as for `glr_dist.train`; nobody looks at its test split.
        config: where the search begins: a Config, or the name of a preset or TOML file.
        seconds: wall-clock time of it all.
        loss: as for `glr_dist.train`.
        tries: by dotted key, what to try in place of the usual values or beside them; see `Space.of`.
        configs: how many are tried at most, that one included.
        workers: trials at once, on Ray Tune; 0: one after the other in this process, -1: as many as the cluster has CPUs.
        out: the new TOML file, or its URI; ``tuned/tuned-DATE-TIME.toml`` when None.
        show: called after every trial, with the best so far and the seconds gone.

    Raises:
        UserError: for whatever in the arguments can't be, and when no trial came to an end in time.
        KeyboardInterrupt: when the user interrupted before any did.
    """
    began = time.monotonic()
    if not 0 < seconds < math.inf:
        raise UserError(f"--seconds {seconds}: must be a finite number above 0")
    if workers < -1:
        raise UserError(f"--workers {workers}: must be 0 (in this process) or more, or -1 (all CPUs)")
    if configs < 1:
        raise UserError(f"--configs {configs}: must be at least 1")
    if workers:
        require_ray_tune(workers)
    start = load_config(config) if isinstance(config, str) else config
    start.check()
    start = dataclasses.replace(
        start, schedule=dataclasses.replace(start.schedule, legs=())
    )  # those were another run's
    report = _Report(str(out or f"{dated('tuned/tuned')}.toml"), began, show)
    data = data or open_dataset(start.data)
    start = fitted(start, data, per_batch(loss or named_loss(start.loss)), lambda line: None)
    if data.numbers:
        raise UserError(
            "tune: configs are compared by their accuracy, and the targets are numbers; train a few yourself"
        )
    if not data.count(SPLIT):
        raise UserError("data.validation: configs are compared on the validation split, and there is none; raise it")
    with fixed_threads(start.engine.threads), held_interrupts(lambda: True) as interrupted:
        _, task = set_up(start, copy.deepcopy(model), data, loss)  # what is wrong with the config itself is told here
        space, bench = Space.of(start, task.sites, tries), Bench(start, task.model, data, loss)
        run = partial(tune_on_ray, workers=workers) if workers else _tune_here
        run(bench, space, configs=configs, ends=began + seconds, interrupted=interrupted, tell=report.tell)
        return report.result(bench, interrupted())


def _tune_here(bench: Bench, space: Space, *, configs: int, ends: float, interrupted: Interrupted, tell: Tell) -> None:
    """One trial after the other, in this process, until ``ends`` on the monotonic clock."""
    step, steps = bench.step_seconds({}), bench.start.steps
    halving = Halving(trial_lengths((ends - time.monotonic()) / bench.load, step, steps), configs)

    def over() -> bool:
        return interrupted() or time.monotonic() >= ends

    while not over() and (chance := halving.next(ends - time.monotonic())) is not None:
        number, rung = chance
        began = time.monotonic()
        trial = bench.train(number, rung, space.values(number), halving.lengths[rung], over)
        halving.tell(trial, time.monotonic() - began)
        tell(trial)


@dataclass(eq=False)
class _Report:
    """What was tried so far, on disk after every trial."""

    out: str
    began: float  # on the monotonic clock
    show: Show
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        above, _, self._name = self.out.rpartition("/")
        self._folder = Storage.at(above or ("/" if self.out.startswith("/") else "."))
        if not self._name.endswith(".toml"):
            raise UserError(
                f"--out {self.out}: a config's name ends in .toml, for glr-dist train to tell it from a preset"
            )
        self._log = f"{self._name.removesuffix('.toml')}.jsonl"
        for name in (self._name, self._log):
            if self._folder.exists(name):
                raise UserError(f"--out {self.out}: {self._folder.folder(name)} is there already; choose another name")

    def tell(self, trial: Trial) -> None:
        """A trial is done."""
        self.trials.append(trial)
        lines = [json.dumps(dataclasses.asdict(one)) for one in self.trials]
        self._folder.write(self._log, "".join(f"{line}\n" for line in lines).encode())
        self.show(trial, chosen(self.trials), time.monotonic() - self.began)

    def result(self, bench: Bench, interrupted: bool) -> TuneResult:
        """Write the best config.

        Raises:
            UserError: when no trial came to an accuracy.
            KeyboardInterrupt: if that was since the user interrupted.
        """
        best = chosen(self.trials)
        if best is None and interrupted:
            raise KeyboardInterrupt
        spent = time.monotonic() - self.began
        if best is None:
            faults = [trial.fault for trial in self.trials]
            why = (
                f"of {len(faults)} trials none came to an accuracy ({faults[0]})" if faults else "no trial was finished"
            )
            raise UserError(f"--seconds: {why} in {spent:.0f} s; give more, or other values to --try")
        start = next((trial for trial in self.trials if trial.number == 0 and not trial.fault), None)
        config = as_long_as_before(with_values(bench.start, best.values), best, bench, start)
        found = f"validation accuracy {100 * (best.accuracy or 0.0):.2f}% after {best.steps} steps"
        text = f"# found by glr-dist tune among {len(self.trials)} trials: {found}\n{config_toml(config)}"
        self._folder.write(self._name, text.encode())
        return TuneResult(
            config=config,
            best=best,
            start=start,
            trials=tuple(self.trials),
            out=str(self._folder.folder(self._name)),
            log=str(self._folder.folder(self._log)),
            seconds=time.monotonic() - self.began,
            interrupted=interrupted,
        )


def as_long_as_before(config: Config, best: Trial, bench: Bench, start: Trial | None) -> Config:
    """With so many steps as take the time of the original run: at equal times the config was found to be better."""
    before = bench.start
    if all(isinstance(value, float) or value_of(before, key) == value for key, value in best.values.items()):
        return config  # a step is as long as it was
    was = bench.step_seconds({}) if start is None else start.seconds / start.steps
    steps = before.steps * was / (best.seconds / best.steps)
    return dataclasses.replace(config, steps=max(1, int(float(f"{steps:.2g}"))))
