"""Calls the command line in this process, reads its JSON line, and checks how it refuses."""

from __future__ import annotations

import json
import sys
from typing import Any

from click.testing import CliRunner, Result

from glr_dist.cli import main

SMALL = ["--workers", "0", "--set", "batch=32", "--set", "units.rows=16", "--set", "noise.table_size=65536"]


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def last_json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def refused(result: Result, *mentions: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error that mentions all that."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for text in mentions:
        assert text in result.stderr


def script(*args: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "glr_dist.cli", *args]
