"""metrics.jsonl: one JSON object a line; a line that a killed writer left half-written is dropped."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from glr_dist.errors import UserError
from glr_dist.store.storage import Storage

NAME = "metrics.jsonl"


class MetricsWriter:
    """Appends to a run's metrics: locally at once, on an object store (the whole file) at each flush."""

    def __init__(self, run: Storage) -> None:
        run.clean("", NAME)
        self._run = run
        self._whole = _whole_lines(run)
        self._file: BinaryIO | None = None
        if run.local:
            run.write(NAME, self._whole)
            self._file = run.path(NAME).open("ab", buffering=0)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a line of JSON values; numpy and torch scalars are fine, numbers that are not finite become null.

        Raises:
            UserError: the disk is full; the file keeps its former whole lines.
        """
        line = json.dumps(_plain(dict(record)), allow_nan=False).encode() + b"\n"
        if self._file is None:
            self._whole += line
            return
        end = self._file.seek(0, os.SEEK_END)
        with self._run.explained(NAME, "write"):
            try:
                while line:  # a nearly full disk takes a part
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(end)
                raise

    def flush(self) -> None:
        """Return when all lines are on disk, or in the object store."""
        if self._file is None:
            self._run.write(NAME, self._whole)
        else:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close. Closing twice is fine."""
        if self._file is None or not self._file.closed:
            self.flush()
        if self._file is not None:
            self._file.close()


def read_metrics(run: Storage) -> list[dict[str, Any]]:
    """All whole lines; none if the run has no metrics yet.

    Raises:
        UserError: a line is damaged (the message has its number).
    """
    return [_parsed(run, number, line) for number, line in enumerate(_whole_lines(run).splitlines(), 1)]


def truncate_metrics(run: Storage, step: int) -> None:
    """Drop the lines of steps after `step`, and a half-written last one; no writer may be open.

    Raises:
        UserError: a line is damaged.
    """
    lines = _whole_lines(run).splitlines(keepends=True)
    kept = [line for number, line in enumerate(lines, 1) if _parsed(run, number, line).get("step", step) <= step]
    if lines:
        run.write(NAME, b"".join(kept))


def _whole_lines(run: Storage) -> bytes:
    """The file up to its last line end."""
    data = run.read(NAME) if run.exists(NAME) else b""
    return data[: data.rfind(b"\n") + 1]


def _parsed(run: Storage, number: int, line: bytes) -> dict[str, Any]:
    record = None
    with suppress(ValueError):
        record = json.loads(line)
    if not isinstance(record, dict):
        raise UserError(f"{run.folder(NAME)}: line {number} is damaged; correct or delete it")
    return record


def _plain(value: Any) -> Any:
    """JSON's own types: scalars of other libraries unwrapped, NaN and infinity to null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
