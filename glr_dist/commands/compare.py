"""The command ``glr-dist compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from glr_dist.commands.options import json_option
from glr_dist.errors import UserError
from glr_dist.launch.place import PLACE

evaluation_option = click.option(
    "--evaluation",
    "evaluations",
    type=PLACE,
    metavar="DIR",
    multiple=True,
    help="What `glr-dist evaluate --out DIR` found, to be shown too; repeatable.",
)


@click.command(short_help="Show runs side by side.")
@click.argument("runs", type=PLACE, metavar="RUN...", nargs=-1, required=True)
@evaluation_option
@json_option
def compare(runs: Sequence[str], evaluations: Sequence[str], as_json: bool) -> None:
    """Show in which settings RUNs differ, what they came to and how, and what they withstand.

    Runs that differ in their seed alone are one column: means, with 95% intervals over the seeds.
    """
    if len(runs) < 2:
        raise UserError(f"RUN {runs[0]}: is alone; give at least two to compare")
    from glr_dist.commands.display import show_columns
    from glr_dist.reporting import comparison
    from glr_dist.reporting.robustness import read_evaluation
    from glr_dist.reporting.story import read_stories

    stories, found = read_stories(runs), [read_evaluation(place) for place in evaluations]
    for table in comparison.compare(stories, found):
        show_columns(table.title, table.header, table.rows, to_stderr=as_json)
    if as_json:
        click.echo(json.dumps(comparison.as_json(stories, found)))
