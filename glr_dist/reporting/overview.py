"""Many runs as one table: a row each, sorted and filtered."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glr_dist.errors import UserError, nearest
from glr_dist.reporting.story import Story, read_story, runs_below
from glr_dist.store.storage import Storage

COLUMNS = ("run", "state", "step", "steps", "method", "loss", "model", "data", "seed", "validation", "test", "seconds")
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "=": lambda a, b: a == b,
}


def rows_of(folder: Storage, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each run in a folder, by name; ``say`` is told in a line of those that can't be read."""
    rows = []
    for place in runs_below(folder):
        try:
            rows.append(row_of(read_story(place)))
        except UserError as error:
            say(f"note: left out: {error}")
    return sorted(rows, key=lambda row: str(row["run"]))


def row_of(story: Story) -> dict[str, Any]:
    """A run's row: its `COLUMNS`, and every setting by its dotted key."""
    config = story.config

    def reached(split: str) -> float | None:
        found = story.accuracy(split)
        return None if found is None else found["accuracy"]

    clock = story.series("seconds")[1]
    return story.settings | {
        "run": story.name,
        "place": str(story.run),
        "state": story.state,
        "step": story.steps,
        "steps": config.steps,
        "method": config.method
        + (f", {config.estimator.scheme}" if config.observes and config.noises == "neurons" else ""),
        "loss": config.loss,
        "model": _network(story),
        "data": config.data.name,
        "seed": config.seed,
        "validation": reached("validation"),
        "test": reached("test"),
        "seconds": story.result["seconds"] if story.result else float(clock[-1]) if len(clock) else None,
        "written": (story.result or {}).get("written"),
    }


def _network(story: Story) -> str:
    model = story.config.model
    if model.kind == "factory":
        return model.factory
    widths = model.hidden if model.kind == "mlp" else model.channels
    return f"{model.kind} {'-'.join(map(str, widths))} {model.activation}"


def chosen_rows(
    rows: Sequence[Mapping[str, Any]], wanted: Sequence[str], by: str, most: int
) -> list[Mapping[str, Any]]:
    """The rows that fulfil all conditions such as ``test>0.97`` or ``data=mnist*``, sorted by a column.

    ``by`` begins with - for the largest first; rows without a value come last. ``most``: so many at most, 0: all.

    Raises:
        UserError: for a column that none of them has, or a condition that is none.
    """
    kept = [row for row in rows if all(_fulfils(row, condition, rows) for condition in wanted)]
    name, down = by.removeprefix("-"), by.startswith("-")
    if rows:
        _refuse_unknown("--sort", name, rows)

    def key(row: Mapping[str, Any]) -> tuple[bool, Any]:
        value = row.get(name)
        return isinstance(value, str), value

    known = sorted((row for row in kept if row.get(name) is not None), key=key, reverse=down)
    ordered = [*known, *(row for row in kept if row.get(name) is None)]
    return ordered[:most] if most else ordered


def _fulfils(row: Mapping[str, Any], condition: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    sign = next((sign for sign in _COMPARED if sign in condition), None)
    if sign is None:
        raise UserError(
            f"--where {condition!r}: write it as COLUMN=VALUE, or with <, >, <=, >=, !=, such as 'test>0.97'"
        )
    name, _, wanted = (part.strip() for part in condition.partition(sign))
    _refuse_unknown("--where", name, rows)
    value = row.get(name)
    number = _number(wanted)
    if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(number):
        return _COMPARED[sign](value, number)
    if sign not in ("=", "!="):
        return False
    return fnmatch.fnmatch(str(value).lower(), wanted.lower()) == (sign == "=")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _refuse_unknown(option: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    known = dict.fromkeys((*COLUMNS, *(key for row in rows for key in row)))
    if name not in known:
        raise UserError(f"{option} {name}: no such column; {nearest(name, known)}")
