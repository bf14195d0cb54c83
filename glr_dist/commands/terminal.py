"""What every command does alike: where lines go, how and a result becomes JSON."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click

from glr_dist.errors import UserError, printable
from glr_dist.store.places import without_password

INTERRUPTED = 130  # exit code


def command_line() -> str:
    """What was typed, as it can be typed again; without passwords."""
    arguments: Sequence[str] = click.get_current_context().find_root().obj or ()
    return shlex.join(["glr-dist", *map(without_password, arguments)])


def refuse_taken(option: str, place: str, other: str) -> None:
    """Refuse a file or folder for results that is there already: nothing is ever written over."""
    from glr_dist.store.storage import Storage

    at = Storage.at(place)
    if at.list() or (at.exists("") and not (at.local and at.path("").is_dir())):
        raise UserError(f"{option} {place}: exists already, and is not written over; give {other}")


def say(line: str) -> None:
    """Print a line for people: standard output may be for a program to read."""
    tell(line, err=True)


def tell(line: str, *, err: bool = False) -> None:
    """Print a line on standard output, or on standard error: without control characters, and without passwords."""
    click.echo(printable(line), err=err)


def json_line(result: Mapping[str, Any]) -> str:
    """One line of strict JSON: numbers that are not finite become null."""
    lost = {key: None for key, value in result.items() if isinstance(value, float) and not math.isfinite(value)}
    return json.dumps({**result, **lost})
