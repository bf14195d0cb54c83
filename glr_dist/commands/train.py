"""The command ``glr-dist train``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.completion import complete_methods
from glr_dist.commands.options import (
    DEFAULT_PRESET,
    config_overrides,
    journal_key_option,
    json_option,
    run_options,
    run_stem,
    settings_option,
)
from glr_dist.commands.terminal import INTERRUPTED, command_line, json_line, say, tell
from glr_dist.core.config import METHODS
from glr_dist.errors import UserError
from glr_dist.launch.place import KEPT_PLACE, PLACE
from glr_dist.store.places import claimed

if TYPE_CHECKING:
    from glr_dist.config import Config
    from glr_dist.engine.callbacks import TrainResult


@click.command(short_help="Train a network.")
@run_options
@click.option("--method", help="glr, bp, bp-noise, straight-through or es.", shell_complete=complete_methods)
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--steps", type=int, help="Optimizer steps, in all; with --resume: go on to so many.")
@click.option("--patience", type=int, metavar="N", help="End after N validations without a better accuracy.")
@click.option("--init-from", type=PLACE, metavar="CHECKPOINT", help="Begin with the weights of this checkpoint or run.")
@click.option("--augment", metavar="fgsm|pgd", help="Make a share of each batch adversarial.")
@click.option("--augment-share", type=float, help="Which share, from 0 to 1.")
@click.option("--augment-epsilon", type=float, help="By how much, in input units.")
@click.option(
    "--surrogate",
    type=KEPT_PLACE,
    metavar="CHECKPOINT",
    help="On which network; the one in training, made differentiable, by default.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop, with a checkpoint, after so long.")
@click.option(
    "--run-dir", type=PLACE, metavar="DIR", help="The run's new folder, or a URI.  [default: runs/PRESET-DATE-TIME]"
)
@click.option("--resume", "resumed", type=PLACE, metavar="RUN", help="Continue this run instead of starting one.")
@click.option(
    "--evaluate-every", type=int, metavar="N", help="Evaluate every N steps' checkpoint beside the run; 0: none."
)
@click.option("--keep", type=int, metavar="N", help="Keep the N newest checkpoints and the best; 0: all.")
@click.option("--journal", metavar="on|off|auto", help="Keep every loss; auto: when it takes less than 1 GB.")
@journal_key_option
@click.option("--trust-model", is_flag=True, help="With --resume: import and run the code that the run names.")
@click.option("--tensorboard", is_flag=True, default=None, help="Write TensorBoard event files too.")
@settings_option
@json_option
def train(
    preset: str | None,
    resumed: str | None,
    run_dir: str | None,
    init_from: str | None,
    seconds: float | None,
    journal_key: str | None,
    trust_model: bool,
    settings: Sequence[str],
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network as a preset (`glr-dist presets`) or a TOML file says."""
    overrides = config_overrides(options, settings)
    if resumed is not None:
        for name, value in (("PRESET", preset), ("--run-dir", run_dir), ("--init-from", init_from)):
            if value is not None:
                why = "--resume takes the config and the folder of the run"
                raise UserError(f"{name} {value}: {why}; leave {name} out")
    config = _checked(preset or DEFAULT_PRESET, overrides) if resumed is None else None
    from glr_dist.commands.display import progress_display, show_table

    named = resumed or run_dir
    with nullcontext(named) if named else claimed(run_stem(preset or options["data"])) as run:
        try:
            from glr_dist.engine.session import resume
            from glr_dist.engine.session import train as start
            from glr_dist.launch.node_report import check_nodes

            with progress_display() as show:
                how: dict[str, Any] = {"seconds": seconds, "show": show, "say": say, "preflight": check_nodes}
                how |= {"journal_key": journal_key, "command": command_line(), "callbacks": [show]}
                if config is not None:
                    result = start(config=config, run_dir=run, init_from=init_from, **how)
                else:
                    result = resume(run, overrides=overrides, trust_model=trust_model, **how)
        except KeyboardInterrupt:
            from glr_dist.runs.run import resume_line

            say(resume_line(run))
            sys.exit(INTERRUPTED)
    show_table("Trained", _rows(result), to_stderr=as_json)
    tell(f"run: {result.run}", err=as_json)
    if as_json:
        click.echo(json_line(dataclasses.asdict(result)))


def _rows(result: TrainResult) -> dict[str, Any]:
    """A finished run as the lines of a table."""
    from glr_dist.commands.display import file_size

    workers = str(result.workers) if result.workers else "in this process"
    return {
        "run": Path(result.run).name,
        "checkpoint": Path(result.checkpoint).name,
        "steps": f"{result.steps:,}" + ("" if result.ended_by == "steps" else f", ended by {result.ended_by}"),
        "seconds": f"{result.seconds:.1f}",
        "workers": f"{workers} ({result.workers_lost} lost)" if result.workers_lost else workers,
        **_measured(result),
        **_best(result),
        "noisy forward passes": f"{result.noisy_forwards:,} ({result.noisy_forwards_per_second:,.0f} a second)",
        "bytes up": file_size(result.bytes_up),
        "bytes down": file_size(result.bytes_down),
        "params_sha256": f"{result.params_sha256[:12]}...",
    }


def _measured(result: TrainResult) -> dict[str, str]:
    """Accuracies; of targets that are numbers, or a loss that is another aim, the losses too."""
    from glr_dist.commands.display import percent

    accuracies = {"validation": result.validation_accuracy, "test": result.test_accuracy}
    losses = {"validation": result.validation_loss, "test": result.test_loss}
    told = {f"{split} accuracy": percent(value) for split, value in accuracies.items()}
    if all(value is None for value in accuracies.values()) and any(value is not None for value in losses.values()):
        told = {}
    own = {f"{split} loss": f"{value:.4f}" for split, value in losses.items() if value is not None}
    return told | own


def _best(result: TrainResult) -> dict[str, str]:
    """The checkpoint that was best by validation, where it is another than the last."""
    from glr_dist.commands.display import percent

    if result.best_checkpoint in (None, result.checkpoint):
        return {}
    test = f", {percent(result.best_test_accuracy)} test" if result.best_test_accuracy is not None else ""
    return {
        "best checkpoint": f"{Path(str(result.best_checkpoint)).name}: {percent(result.best_validation_accuracy)}"
        f" validation{test}"
    }


def _checked(preset: str, overrides: Mapping[str, Any]) -> Config:
    """The config; whoever says how rows are attacked, and not that they are, has forgotten something.

    So has who asks for copies that nobody makes.
    """
    from glr_dist.config import load_config

    config = load_config(preset, overrides)
    if "estimator.copies" in overrides and METHODS[config.method][1] == "nothing":
        raise UserError(
            f"estimator.copies = {overrides['estimator.copies']}: changes nothing with --method {config.method}, which makes"
            " no noisy copies; leave it out, or use --method glr"
        )
    attack = config.augment.attack
    idle = [] if attack else ["share"]
    idle += [] if attack or config.evaluate_every else ["epsilon"]  # --evaluate-every attacks with it, too
    idle += [] if attack == "pgd" else ["steps", "step_size", "part"]
    for key in (f"augment.{name}" for name in idle):
        if key in overrides:
            needed = "pgd" if attack else "fgsm or pgd"
            raise UserError(
                f"{key} = {overrides[key]}: changes nothing without --augment {needed}; add it, or leave it out"
            )
    return config
