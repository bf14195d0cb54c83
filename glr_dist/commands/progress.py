"""Showing a run's progress: a rich bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from glr_dist.engine.driver import Progress

_LINE_SECONDS = 5.0
_BAR_SECONDS = 0.1


@contextmanager
def progress_display(quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Within: a function that shows a step's progress on standard error.

    Args:
        quiet: show nothing.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif not console.is_terminal:
        yield _lines()
    else:
        with _bar(console) as show:
            yield show


def describe(progress: Progress) -> str:
    """Loss, validation accuracy and speed, as one short text."""
    parts = []
    if progress.loss is not None:
        parts.append(f"noisy loss {progress.loss:.4f}")
    if progress.validation is not None:
        parts.append(f"validation {100 * progress.validation:.2f}%")
    if progress.noisy_forwards_per_second:
        parts.append(f"{_short(progress.noisy_forwards_per_second)} noisy forward passes/s")
    return ", ".join(parts)


def _short(rate: float) -> str:
    for size, name in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if rate >= size:
            return f"{rate / size:.2f}{name}"
    return f"{rate:.0f}"


def _lines() -> Callable[[Progress], None]:
    last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        if progress.step != progress.steps and time.monotonic() - last < _LINE_SECONDS:
            return
        last = time.monotonic()
        left = f"{progress.seconds_left:.0f} s left"
        print(
            f"step {progress.step}/{progress.steps}: {describe(progress)}, {left}",
            file=sys.stderr,
            flush=True,
        )

    return show


@contextmanager
def _bar(console: Console) -> Iterator[Callable[[Progress], None]]:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)
        last = 0.0

        def show(progress: Progress) -> None:
            nonlocal last
            if progress.step != progress.steps and time.monotonic() - last < _BAR_SECONDS:
                return
            last = time.monotonic()
            bar.update(task, completed=progress.step, total=progress.steps, description=describe(progress))

        yield show
