"""Results as tables for people to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glr_dist.engine.session import TrainResult
from glr_dist.robustness.measurement import Evaluation


def show_table(title: str, rows: Mapping[str, Any], *, to_stderr: bool = False) -> None:
    """Print a table of names and values.

    Args:
        title: what stands above it.
        rows: its lines.
        to_stderr: print to standard error, where standard output is for a program to read.
    """
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    Console(stderr=to_stderr, markup=False, highlight=False).print(table)


def train_rows(result: TrainResult) -> dict[str, Any]:
    """A finished run as the lines of a table."""
    workers = str(result.workers) if result.workers else "in this process"
    return {
        "run": Path(result.run).name,
        "checkpoint": Path(result.checkpoint).name,
        "steps": f"{result.steps:,}",
        "seconds": f"{result.seconds:.1f}",
        "workers": f"{workers} ({result.workers_lost} lost)" if result.workers_lost else workers,
        "validation accuracy": _percent(result.validation_accuracy),
        "test accuracy": _percent(result.test_accuracy),
        "noisy forward passes": f"{result.noisy_forwards:,} ({result.noisy_forwards_per_second:,.0f} a second)",
        "bytes up": file_size(result.bytes_up),
        "bytes down": file_size(result.bytes_down),
        "params_sha256": f"{result.params_sha256[:12]}...",
    }


def evaluation_rows(result: Evaluation) -> dict[str, Any]:
    """An evaluation as the lines of a table."""
    rows = {
        "checkpoint": result.checkpoint,
        "data": f"{result.dataset}, {result.split}, {result.n:,} examples",
        "accuracy": _percent(result.accuracy),
        f"loss ({result.loss_name})": f"{result.loss:.4f}",
    }
    if result.votes is not None:
        assert result.noisy_loss is not None
        rows[f"accuracy, {result.votes} noisy votes"] = _percent(result.noisy_accuracy)
        rows["loss, noisy"] = f"{result.noisy_loss:.4f}"
    return rows | {"params_sha256": f"{result.params_sha256[:12]}..."}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}%"


def file_size(count: float) -> str:
    """A number of bytes for people to read."""
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {name}"
    return f"{count:.0f} bytes"
