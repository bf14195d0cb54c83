"""What people see while a command works and when it is done: a bar on a terminal, plain lines elsewhere, tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from glr_dist.commands.terminal import say

if TYPE_CHECKING:
    from glr_dist.engine.driver import Progress

_LINE_SECONDS = 5.0  # between lines where there is no terminal
_BAR_SECONDS = 0.1


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
        say(f"step {progress.step}/{progress.steps}: {describe(progress)}, {left}")

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


@contextmanager
def job_display() -> Iterator[Callable[[int, int, str], None]]:
    """Within: a function that shows on standard error how many jobs are done: a bar on a terminal, else lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _job_lines()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda done, jobs, last: bar.update(task, completed=done, total=jobs, description=last)


def _job_lines() -> Callable[[int, int, str], None]:
    began = told = 0.0

    def show(done: int, jobs: int, last: str) -> None:
        nonlocal began, told
        now = time.monotonic()
        if done == 1:  # actors take seconds to start: they don't count
            began = told = now
        if done != jobs and now - told < _LINE_SECONDS:
            return
        told = now
        say(f"{done}/{jobs} chunks of samples, {last}; {(now - began) / max(done - 1, 1) * (jobs - done):.0f} s left")

    return show


def percent(share: float | None) -> str:
    """A share for people to read."""
    return "-" if share is None else f"{100 * share:.2f}%"


def file_size(count: float) -> str:
    """A number of bytes for people to read."""
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {name}"
    return f"{count:.0f} bytes"
