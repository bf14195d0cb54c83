"""What every command does alike: where lines go, how and a result becomes JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import click

INTERRUPTED = 130  # exit code


def say(line: str) -> None:
    """Print a line for people: standard output may be for a program to read."""
    click.echo(line, err=True)


def json_line(result: Mapping[str, Any]) -> str:
    """One line of strict JSON: numbers that are not finite become null."""
    lost = {key: None for key, value in result.items() if isinstance(value, float) and not math.isfinite(value)}
    return json.dumps({**result, **lost})
