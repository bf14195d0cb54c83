"""Trials on a cluster: each one a training in the process of a Ray Tune trial, stopped early by Tune's own scheduler.

ASHA decides when a trial reports, and one that is among the best third of its rung so far goes on to the next, where it
trains anew and longer. A trial's values, lengths and accuracy are those of `glr_dist.tuning.halving`, in one process.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from glr_dist.core.threads import fixed_threads
from glr_dist.errors import UserError
from glr_dist.tuning.halving import FACTOR, trial_lengths
from glr_dist.tuning.space import Space
from glr_dist.tuning.trials import Bench, Interrupted, Tell, Trial
from glr_dist.workers.cluster import connected, workers_available

_NEEDED = ("fsspec", "pandas", "pyarrow", "requests")  # by ray.tune
_SETTINGS = {  # of Ray Tune, for which there are no arguments
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no files of its own
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # nothing on standard output
}


def require_ray_tune(workers: int) -> None:
    """Raise UserError if packages are missing that Ray Tune needs beside Ray; does not import it, as `connected` must."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            f"--workers {workers}: Ray Tune's packages are missing ({', '.join(missing)}); pip install 'glr-dist[tune]', or"
            " give --workers 0 to try one config after the other in this process"
        )


def tune_on_ray(
    bench: Bench, space: Space, *, workers: int, configs: int, ends: float, interrupted: Interrupted, tell: Tell
) -> None:
    """So many trials at once, until ``ends`` on the monotonic clock.

    Raises:
        UserError: when the cluster is too small.
        TuneError: for what went wrong in a trial, where none came to any report.
    """
    threads = bench.start.engine.threads
    with connected(), _settings(), tempfile.TemporaryDirectory(prefix="glr_dist_tune_") as folder:
        from ray import tune

        count = workers_available(workers, 0, threads=threads, gpus=0.0, most=configs)
        if (left := ends - time.monotonic()) <= 0:
            return  # a cluster takes its time to start
        step = bench.step_seconds({})
        lengths = trial_lengths(left / bench.load, step, bench.start.steps, count)
        longest = len(lengths) - 1
        listener = _listener(tell)
        objective = tune.with_parameters(
            _objective, bench=bench, space=space, lengths=lengths, ends=time.time() + left, threads=threads
        )
        tuner = tune.Tuner(
            tune.with_resources(objective, {"cpu": threads}),
            param_space={"number": tune.grid_search(list(range(configs)))},
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                scheduler=tune.schedulers.ASHAScheduler(
                    time_attr="length", max_t=FACTOR**longest, grace_period=1, reduction_factor=FACTOR
                ),
                max_concurrent_trials=count,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                verbose=0,
                stop=_stopper(lambda: interrupted() or time.monotonic() >= ends),
                callbacks=[listener],
            ),
        )
        errors = tuner.fit().errors
        if errors and not listener.heard:  # else a node was lost, or one config is beyond torch: the others count
            raise errors[0]


def _objective(
    config: Mapping[str, Any], bench: Bench, space: Space, lengths: tuple[float, ...], ends: float, threads: int
) -> None:
    """One trial on all rungs that Tune lets it reach, until ``ends`` by the time of day."""
    from ray import tune

    number = config["number"]
    # the config as it was given has the longest training, and no other
    for rung in range(len(lengths) - 1 if number == 0 else 0, len(lengths)):
        with fixed_threads(threads):
            trial = bench.train(number, rung, space.values(number), lengths[rung], lambda: time.time() >= ends)
        told = {"accuracy": -1.0 if trial.accuracy is None else trial.accuracy, "length": FACTOR**rung}
        tune.report({**told, "trial": dataclasses.asdict(trial)})
        if trial.fault:
            return


def _listener(tell: Tell) -> Any:
    """A callback of Tune that passes on every trial's report."""
    from ray import tune

    class Listener(tune.Callback):
        heard = 0  # reports

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
            if "trial" in result:
                self.heard += 1
                tell(Trial(**result["trial"]))

    return Listener()


def _stopper(over: Interrupted) -> Any:
    """What Tune asks whether all is over."""
    from ray import tune

    class Stopper(tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            return False

        def stop_all(self) -> bool:
            return over()

    return Stopper()


@contextmanager
def _settings() -> Iterator[None]:
    """Within: Tune's environment variables, where nobody has set them, and no warnings from it."""
    ours = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    os.environ.update(ours)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name in ours:
            del os.environ[name]
