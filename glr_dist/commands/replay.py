"""The commands ``glr-dist replay`` and ``glr-dist verify``. Exit codes as everywhere; 1 when something differs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable

import click

from glr_dist.commands.terminal import absolute, say

_SHOWN = 10  # differences told one by one


def _shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """What both commands take."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="End standard output with one JSON object."),
        click.option("--trust-model", is_flag=True, help="Import and run the model.factory that the run names."),
        click.option(
            "--surrogate", metavar="CHECKPOINT", help="Where its surrogate lies now, if it had one that moved."
        ),
        click.option("--data-root", metavar="DIR", help="Folder of the data.  [default: the run's]"),
        click.argument("run"),
    ):
        command = option(command)
    return command


@click.command(short_help="Rebuild a step's parameters from the journal.")
@click.option("--to", type=int, metavar="STEP", help="Steps to do.  [default: all that the journal holds]")
@_shared_options
def replay(
    run: str, to: int | None, data_root: str | None, surrogate: str | None, trust_model: bool, as_json: bool
) -> None:
    """Rebuild the parameters of RUN from its initial ones and its journal, and compare the checkpoints on the way."""
    from glr_dist.commands.progress import progress_display
    from glr_dist.commands.summary import show_table
    from glr_dist.engine.replay import replay as run_replay

    with progress_display() as show:
        result = run_replay(
            run,
            to,
            data_root=data_root and absolute(data_root),
            surrogate=surrogate and (surrogate if "://" in surrogate else absolute(surrogate)),
            trust_model=trust_model,
            show=show,
            say=say,
        )
    compared = ", ".join(map(str, result.compared))
    rows = {
        "run": result.run,
        "step": f"{result.step:,}",
        "losses evaluated": "none",
        "seconds": _against(result.seconds, result.training_seconds),
        "checkpoints": {None: "none to compare with", True: f"equal: {compared}", False: f"differ: of {compared}"}[
            result.equal
        ],
        "params_sha256": f"{result.params_sha256[:12]}...",
    }
    show_table("Replayed", rows, to_stderr=as_json)
    if as_json:
        values = {entry.name: getattr(result, entry.name) for entry in dataclasses.fields(result)}
        click.echo(json.dumps({key: value for key, value in values.items() if key != "model"}))
    if result.first_difference is not None:
        say(
            f"Error: the replay's parameters differ from those in the checkpoint of step {result.first_difference}: the"
            " journal, the checkpoint or the initial parameters were changed, or this is another kind of hardware"
        )
        sys.exit(1)


@click.command(short_help="Audit a share of the journalled losses.")
@click.option("--share", type=float, default=0.05, show_default=True, help="Of the units, in (0, 1].")
@click.option("--seed", type=int, help="Of the choice of units.  [default: one that nobody can foresee]")
@_shared_options
def verify(
    run: str,
    share: float,
    seed: int | None,
    data_root: str | None,
    surrogate: str | None,
    trust_model: bool,
    as_json: bool,
) -> None:
    """Evaluate a random share of the units in RUN's journal again and report every loss that differs."""
    from glr_dist.commands.progress import progress_display
    from glr_dist.commands.summary import show_table
    from glr_dist.engine.verify import verify as run_verify

    with progress_display() as show:
        result = run_verify(
            run,
            share,
            seed=seed,
            data_root=data_root and absolute(data_root),
            surrogate=surrogate and (surrogate if "://" in surrogate else absolute(surrogate)),
            trust_model=trust_model,
            show=show,
        )
    rows = {
        "run": result.run,
        "steps": f"{result.steps:,}",
        "units checked": f"{result.checked:,} of {result.units:,} (seed {result.seed})",
        "units that differ": f"{len(result.differences):,}",
        "seconds": f"{result.seconds:.1f}",
    }
    show_table("Verified", rows, to_stderr=as_json)
    for difference in result.differences[:_SHOWN]:
        say(str(difference))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    if result.differences:
        worst = max(result.differences, key=lambda difference: difference.largest)
        say(f"Error: {len(result.differences)} of {result.checked} units differ; the worst: {worst}")
        sys.exit(1)


def _against(seconds: float, training: float | None) -> str:
    if training is None:
        return f"{seconds:.1f}"
    return f"{seconds:.1f}; the training took {training:.1f} ({training / max(seconds, 1e-9):.1f} times as long)"
