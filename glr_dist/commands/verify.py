"""The command ``glr-dist verify``; exit code 1 when a unit differs, or the run's files say what isn't so."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click

from glr_dist.commands.options import journal_options
from glr_dist.commands.terminal import say

_SHOWN = 10  # differences, and findings, told one by one


@click.command(short_help="Audit a share of the journalled losses.")
@click.option("--share", type=float, default=0.05, show_default=True, help="Of the units, in (0, 1].")
@click.option("--seed", type=int, help="Of the choice of units.  [default: one that nobody can foresee]")
@journal_options
def verify(run: str, share: float, seed: int | None, as_json: bool, **moved: Any) -> None:
    """Evaluate a random share of the units in RUN's journal again and report every loss that differs.

    Metrics, checkpoints and what they say they were made of are compared with the journal's replay, all of them.
    """
    from glr_dist.commands.display import progress_display, show_table
    from glr_dist.engine.verify import verify as run_verify

    with progress_display() as show:
        result = run_verify(run, share, seed=seed, **moved, show=show)
    rows = {
        "run": result.run,
        "steps covered": f"1 to {result.steps:,} of {result.planned:,}",
        "checkpoints covered": ", ".join(map(str, result.checkpoints)) or "none",
        "signatures": "good" if result.signed else "not looked at (no --journal-key)",
        "units checked": f"{result.checked:,} of {result.units:,} (seed {result.seed})",
        "units that differ": f"{len(result.differences):,}",
        "seconds": f"{result.seconds:.1f}",
    }
    show_table("Verified", rows, to_stderr=as_json)
    for difference in result.differences[:_SHOWN]:
        say(str(difference))
    for finding in result.findings[:_SHOWN]:
        say(finding)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(result)))
    if result.differences:
        worst = max(result.differences, key=lambda difference: difference.largest)
        say(f"Error: {len(result.differences)} of {result.checked} units differ; the worst: {worst}")
    if result.findings:
        say(f"Error: {len(result.findings)} findings; the first: {result.findings[0]}")
    if result.differences or result.findings:
        sys.exit(1)
