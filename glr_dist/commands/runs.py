"""The command ``glr-dist runs``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from glr_dist.commands.options import json_option
from glr_dist.commands.terminal import say, tell
from glr_dist.errors import printable
from glr_dist.launch.place import PLACE

_NUMBERS = ("step", "seed", "validation", "test", "seconds")


@click.command(short_help="List the runs in a folder.")
@click.argument("folder", type=PLACE, metavar="[DIR]", default="runs")
@click.option("--sort", "by", metavar="COLUMN", default="run", show_default=True, help="-COLUMN: the largest first.")
@click.option(
    "--where",
    "wanted",
    metavar="CONDITION",
    multiple=True,
    help="Such as 'test>0.97', 'model=mlp*', 'noise.scale=1': a column or any config key; repeatable.",
)
@click.option("--most", type=click.IntRange(min=0), default=0, help="So many rows at most.  [default: all]")
@json_option
def runs(folder: str, by: str, wanted: Sequence[str], most: int, as_json: bool) -> None:
    """List the runs in DIR and the folders below it: what they are, how far they are, what they reached.

    Columns are run, state, step, steps, method, loss, model, data, seed, validation, test, seconds, and every config key.
    """
    from glr_dist.errors import UserError
    from glr_dist.reporting.overview import chosen_rows, rows_of
    from glr_dist.store.storage import Storage

    place = Storage.at(folder)
    if not place.exists(""):
        raise UserError(f"DIR {folder}: there is no such folder; give one with runs in it")
    rows = chosen_rows(rows_of(place, say), wanted, by, most)
    if as_json:
        click.echo(json.dumps({"runs": [dict(row) for row in rows]}))
        return
    if not rows:
        click.echo("no runs")
        return
    _show(rows, [*(re.split("[<>=!]", condition)[0].strip() for condition in wanted), by.removeprefix("-")])


def _show(rows: Sequence[Mapping[str, Any]], asked: Sequence[str]) -> None:
    """The rows, without the columns in which all are alike: these are told once."""
    from rich.console import Console
    from rich.table import Table

    from glr_dist.reporting.overview import COLUMNS

    names = [name for name in (*COLUMNS, *dict.fromkeys(asked)) if name != "steps"]
    lines = [{name: _cell(row, name) for name in names} for row in rows]
    alike = [name for name in names[1:] if len(rows) > 1 and len({line[name] for line in lines}) == 1]
    table = Table(box=None, pad_edge=False)
    shown = list(dict.fromkeys(name for name in names if name not in alike))
    for name in shown:
        table.add_column(name, no_wrap=True, justify="right" if name in _NUMBERS else "left", overflow="ellipsis")
    for line in lines:
        table.add_row(*(printable(line[name]) for name in shown))
    width = None if sys.stdout.isatty() else 10_000  # a program that reads this wants whole lines
    Console(markup=False, highlight=False, width=width).print(table)
    if alike:
        told = ", ".join(f"{name} {lines[0][name]}" for name in dict.fromkeys(alike))
        tell(f"{len(rows)} runs; of all: {told}")


def _cell(row: Mapping[str, Any], name: str) -> str:
    from glr_dist.commands.display import percent

    value = row.get(name)
    if name == "step":
        return f"{row['step']:,}" if row["step"] == row["steps"] else f"{row['step']:,} of {row['steps']:,}"
    if name in ("validation", "test"):
        return percent(value)
    if value is None:
        return "-"
    return f"{value:,.1f}" if name == "seconds" else f"{value:g}" if isinstance(value, float) else str(value)
