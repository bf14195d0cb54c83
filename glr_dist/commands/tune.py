"""The command ``glr-dist tune``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.options import (
    DEFAULT_PRESET,
    config_overrides,
    json_option,
    new_config,
    preset_options,
    settings_option,
)
from glr_dist.commands.terminal import INTERRUPTED, json_line, say, tell
from glr_dist.errors import UserError
from glr_dist.launch.place import PLACE

if TYPE_CHECKING:
    from glr_dist.config import Config
    from glr_dist.tuning.trials import Trial
    from glr_dist.tuning.tune import TuneResult

_ROWS = 12  # of the table


@click.command(short_help="Find noise scale, copies and learning rate in a given time.")
@preset_options
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), required=True, help="Wall-clock time to find them in."
)
@click.option(
    "--workers",
    type=int,
    help="Trials at once, on Ray Tune; 0: one after the other in this process; -1: all CPUs.  [default: -1 where"
    " RAY_ADDRESS names a cluster, else 0]",
)
@click.option("--configs", type=int, help="Try so many at most.")
@click.option(
    "--try",
    "tries",
    metavar="KEY[=LOW:HIGH|=VALUE,...]",
    multiple=True,
    help="What to try of a key, such as optimizer.weight_decay, or noise.scale=0.1:2; repeatable.",
)
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--out", type=PLACE, metavar="FILE.toml", help="The new config.  [default: tuned/PRESET-DATE-TIME.toml]")
@settings_option
@json_option
def tune(
    preset: str | None,
    seconds: float,
    workers: int | None,
    configs: int | None,
    tries: Sequence[str],
    out: str | None,
    settings: Sequence[str],
    as_json: bool,
    **options: Any,
) -> None:
    """Try configs near a preset or a TOML file in short trainings, and write the best one for `glr-dist train`.

    What is best is decided on the validation split, at equal CPU times of training. Tried are noise.scale, optimizer.lr, and
    estimator.copies, or base_draws and flips where the scheme turns bits; --try adds keys or takes other values.
    """
    began = time.monotonic()
    ranges = dict(map(_tried, tries))
    overrides = config_overrides(options, settings)
    from glr_dist.config import load_config

    start = load_config(preset or DEFAULT_PRESET, overrides)
    from glr_dist.commands.display import trial_display
    from glr_dist.tuning.tune import MOST_CONFIGS
    from glr_dist.tuning.tune import tune as find

    on_ray = bool(os.environ.get("RAY_ADDRESS")) if workers is None else False
    try:
        with trial_display(seconds) as show:
            result = find(
                config=start,
                seconds=max(seconds - (time.monotonic() - began), seconds / 2),  # imports take their time
                tries=ranges,
                configs=MOST_CONFIGS if configs is None else configs,
                workers=-1 if on_ray else workers or 0,
                out=out or new_config(preset),
                show=show,
            )
    except KeyboardInterrupt:
        say("interrupted before a trial was finished")
        sys.exit(INTERRUPTED)
    _show(start, result, to_stderr=as_json)
    if as_json:
        click.echo(json_line(_report(result)))
    if result.interrupted:
        sys.exit(INTERRUPTED)


def _tried(text: str) -> tuple[str, Any]:
    """A key and what to try of it, from ``KEY``, ``KEY=LOW:HIGH`` or ``KEY=VALUE,VALUE``."""
    key, equals, values = (part.strip() for part in text.partition("="))
    low, colon, high = values.partition(":")
    if not equals:
        return key, None
    if not colon:
        return key, [value.strip() for value in values.split(",")]
    try:
        return key, (float(low), float(high))
    except ValueError:
        raise UserError(f"--try {text}: write numbers, such as noise.scale=0.1:2") from None


def _show(start: Config, result: TuneResult, *, to_stderr: bool) -> None:
    """The best trials as a table, and what came of them."""
    from glr_dist.commands.display import percent, show_columns, show_table
    from glr_dist.tuning.space import value_of

    trials = sorted(result.trials, key=lambda trial: (trial.rung, trial.score), reverse=True)
    keys = list(dict.fromkeys(key for trial in trials for key in trial.values))

    def row(trial: Trial) -> list[str]:
        values = [str(trial.values.get(key, value_of(start, key))) for key in keys]
        found = trial.fault or percent(trial.accuracy)
        number = f"{trial.number}{' (as given)' if trial.number == 0 else ''}{' *' if trial is result.best else ''}"
        return [number, *values, f"{trial.steps:,}", f"{trial.seconds:.1f}", found]

    header = ["trial", *(key.rpartition(".")[2] for key in keys), "steps", "CPU s", "validation"]
    show_columns("Trials, the longest and best first", header, map(row, trials[:_ROWS]), to_stderr=to_stderr)
    changes: Mapping[str, Any] = {**result.best.values, "steps": result.config.steps}
    show_table(
        "Tuned",
        {
            "trials": f"{len(trials)}, of {len({trial.number for trial in trials})} configs; all in {Path(result.log).name}",
            "seconds": f"{result.seconds:.1f}",
            "validation accuracy": percent(result.best.accuracy),
            "as given": percent(result.start.accuracy if result.start else None),
            **{key: f"{value_of(start, key)} -> {value}" for key, value in changes.items()},
        },
        to_stderr=to_stderr,
    )
    tell(f"config: {result.out}", err=to_stderr)


def _report(result: TuneResult) -> dict[str, Any]:
    """The keys of ``--json``."""
    return {
        "out": result.out,
        "log": result.log,
        "trials": len(result.trials),
        "configs": len({trial.number for trial in result.trials}),
        "seconds": result.seconds,
        "values": dict(result.best.values),
        "steps": result.config.steps,
        "trial_steps": result.best.steps,
        "validation_accuracy": result.best.accuracy,
        "start_validation_accuracy": result.start.accuracy if result.start else None,
        "interrupted": result.interrupted,
    }
