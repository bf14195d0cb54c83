"""The command ``glr-dist replay``; exit code 1 when a checkpoint differs."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.options import journal_options
from glr_dist.commands.terminal import refuse_taken, say
from glr_dist.errors import UserError
from glr_dist.launch.place import PLACE

if TYPE_CHECKING:
    from glr_dist.engine.replay import ReplayResult


@click.command(short_help="Rebuild a step's parameters from the journal.")
@click.option("--to", type=int, metavar="STEP", help="Steps to do.  [default: all that the journal holds]")
@click.option("--out", type=PLACE, metavar="DIR", help="Write the replayed step's checkpoint there, to be evaluated.")
@journal_options
def replay(run: str, to: int | None, out: str | None, as_json: bool, **moved: Any) -> None:
    """Rebuild the parameters of RUN from its initial ones and its journal, and compare the checkpoints on the way.

    Covers the steps and checkpoints that it names, and fails where RUN's newest checkpoint is not among them.
    """
    from glr_dist.commands.display import progress_display, show_table
    from glr_dist.engine.replay import replay as run_replay

    if out is not None:
        refuse_taken("--out", out, "a new folder")
    with progress_display() as show:
        result = run_replay(run, to, **moved, show=show, say=say)
    compared = ", ".join(map(str, result.compared))
    equal = {None: "none to compare with", True: f"equal: {compared}", False: f"differ: of {compared}"}
    rows = {
        "run": result.run,
        "step": f"{result.step:,}",
        "losses evaluated": "none",
        "seconds": _against(result.seconds, result.training_seconds),
        "checkpoints": equal[result.equal],
        "params_sha256": f"{result.params_sha256[:12]}...",
    }
    if out is not None:
        rows["checkpoint"] = _written(result, out)
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
    if result.uncovered is not None:
        say(
            f"Error: the checkpoint of step {result.uncovered} was not compared: it is damaged, or the journal, which ends"
            f" at step {result.step}, was cut short"
        )
        sys.exit(1)


def _written(result: ReplayResult, out: str) -> str:
    """Write a checkpoint of what was replayed; returns its folder."""
    from glr_dist.runs.run import RunStore
    from glr_dist.store.checkpoint import save_checkpoint
    from glr_dist.store.storage import Storage

    card = RunStore.at(result.run)[0].card()
    if card is None:
        raise UserError(f"--out {out}: {result.run} has nothing left that says what it is made of; leave --out out")
    meta = {**card.as_json(), "replayed": result.run}
    weights = result.model.state_dict()
    return save_checkpoint(Storage.at(out), step=result.step, weights=weights, training={}, meta=meta)


def _against(seconds: float, training: float | None) -> str:
    if training is None:
        return f"{seconds:.1f}"
    return f"{seconds:.1f}; the training took {training:.1f} ({training / max(seconds, 1e-9):.1f} times as long)"
