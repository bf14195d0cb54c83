"""report/evaluations.jsonl: what was found of checkpoints while the run went on, one JSON object a checkpoint, by step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

from glr_dist.store.storage import Storage

NAME = "report/evaluations.jsonl"


def read_evaluations(run: Storage) -> list[dict[str, Any]]:
    """All lines; a damaged one, which nothing hangs on, is left out."""
    lines = []
    for line in run.read(NAME).splitlines() if run.exists(NAME) else []:
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def add_evaluation(run: Storage, found: Mapping[str, Any]) -> None:
    """Put a line, JSON values whose ``step`` is the checkpoint's, in its place; it replaces the one of the same step.

    Who died and evaluates again says the same again, and not in the order of steps.
    """
    others = [line for line in read_evaluations(run) if line["step"] != found["step"]]
    _write(run, sorted([*others, found], key=itemgetter("step")))


def truncate_evaluations(run: Storage, step: int) -> None:
    """Drop what was said of checkpoints of steps after ``step``."""
    lines = read_evaluations(run)
    kept = [line for line in lines if line["step"] <= step]
    if len(kept) < len(lines):
        _write(run, kept)


def _write(run: Storage, lines: Sequence[Mapping[str, Any]]) -> None:
    run.write(NAME, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
