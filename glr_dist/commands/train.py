"""The command ``glr-dist train``."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.terminal import INTERRUPTED, absolute, import_from_here, json_line, say
from glr_dist.errors import UserError

if TYPE_CHECKING:
    from glr_dist.engine.training import TrainResult

DEFAULT_PRESET = "digits-threshold"
_KEYS = {  # option -> config key
    "data_root": "data.root",
    "workers": "engine.workers",
    "reconstructors": "engine.reconstructors",
    "gpus_per_worker": "engine.gpus_per_worker",
    "method": "method",
    "loss": "loss",
    "seed": "seed",
    "steps": "steps",
    "journal": "journal",
    "tensorboard": "tensorboard",
}


@click.command(short_help="Train a network.")
@click.argument("preset", metavar="[PRESET|FILE.toml]", required=False)
@click.option("--data-root", metavar="DIR", help="Folder of the data; downloaded when left out.")
@click.option("--workers", type=int, help="Evaluators; 0: in this process, without Ray; -1: all CPUs.")
@click.option("--reconstructors", type=int, help="Reconstructor actors; 0: reconstruct in the driver.")
@click.option("--gpus-per-worker", type=float, help="GPUs of each worker; may be a fraction.")
@click.option("--method", help="glr, bp, bp-noise, straight-through or es.")
@click.option("--loss", help="cross-entropy or zero-one.")
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--steps", type=int, help="Optimizer steps.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop, with a checkpoint, after so long.")
@click.option("--run-dir", metavar="DIR", help="The run's new folder, or a URI.  [default: runs/PRESET-DATE-TIME]")
@click.option("--resume", "resumed", metavar="RUN", help="Continue this run instead of starting one.")
@click.option("--journal", metavar="on|off|auto", help="Keep every loss; auto: when it takes less than 1 GB.")
@click.option("--trust-model", is_flag=True, help="With --resume: import the model.factory that the run names.")
@click.option("--tensorboard", is_flag=True, default=None, help="Write TensorBoard event files too.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Any config key; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="End standard output with one JSON object.")
def train(
    preset: str | None,
    resumed: str | None,
    run_dir: str | None,
    seconds: float | None,
    trust_model: bool,
    settings: Sequence[str],
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network as a preset (`glr-dist presets`) or a TOML file says."""
    overrides = _overrides(options, settings)
    if resumed is not None:
        for name, value in (("PRESET", preset), ("--run-dir", run_dir)):
            if value is not None:
                raise UserError(
                    f"{name} {value}: --resume takes the config and the folder of the run; leave {name} out"
                )
    import_from_here()
    from glr_dist.commands.progress import progress_display
    from glr_dist.commands.summary import show_table, train_rows
    from glr_dist.engine.training import new_run_name

    run = resumed or run_dir or new_run_name(Path(preset or DEFAULT_PRESET).stem)
    try:
        with progress_display() as show:
            if resumed is None:
                result = _start(preset or DEFAULT_PRESET, overrides, run, seconds, show)
            else:
                result = _continue(resumed, overrides, trust_model, seconds, show)
    except KeyboardInterrupt:
        say(_how_to_go_on(run))
        sys.exit(INTERRUPTED)
    show_table("Trained", train_rows(result), to_stderr=as_json)
    click.echo(f"run: {result.run}", err=as_json)
    if as_json:
        click.echo(json_line(dataclasses.asdict(result)))


def _start(
    preset: str, overrides: Mapping[str, Any], run: str, seconds: float | None, show: Callable[[Any], None]
) -> TrainResult:
    from glr_dist.config import load_config
    from glr_dist.engine.training import train as run_training

    return run_training(config=load_config(preset, overrides), run_dir=run, seconds=seconds, show=show, say=say)


def _continue(
    run: str, overrides: Mapping[str, Any], trust_model: bool, seconds: float | None, show: Callable[[Any], None]
) -> TrainResult:
    from glr_dist.engine.training import resume

    return resume(run, overrides=overrides, trust_model=trust_model, seconds=seconds, show=show, say=say)


def _overrides(options: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Config keys from the named options and from ``--set``."""
    from glr_dist.config import override

    found = {_KEYS[option]: value for option, value in options.items() if value is not None}
    for setting in settings:
        key, value = override(setting)
        if key in found:
            raise UserError(f"--set {setting}: {key} is given twice; leave one out")
        found[key] = value
    if found.get("data.root"):
        found["data.root"] = absolute(found["data.root"])  # the run may be resumed from another folder
    return found


def _how_to_go_on(run: str) -> str:
    from glr_dist.store import Storage

    storage = Storage.at(run)
    if storage.parent().name == "checkpoints":  # it went back to a checkpoint
        storage, run = storage.parent().parent(), str(storage.parent().parent())
    if storage.exists("config.toml"):
        place = run if storage.local else str(storage)  # as typed, but never a password
        return f"interrupted; continue with: glr-dist train --resume {shlex.quote(place)}"
    return "interrupted before the run began: there is nothing to resume"
