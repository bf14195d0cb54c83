"""What people see while a command works and when it is done: a bar on a terminal, plain lines elsewhere, tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from glr_dist.commands.terminal import say
from glr_dist.engine.callbacks import Callback, Progress
from glr_dist.errors import printable

if TYPE_CHECKING:
    from glr_dist.tuning.trials import Trial

_LINE_SECONDS = 5.0  # between lines where there is no terminal
_FRAME = 14  # characters of a bar's line that are no figures: slash, time, gaps
_Show = Callable[[int, int, Sequence[str], str], None]


def show_table(title: str, rows: Mapping[str, Any], *, to_stderr: bool = False) -> None:
    """Print a table of names and values; to standard error, where standard output is for a program to read."""
    table = Table(title=printable(title), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(printable(name), printable(str(value)))
    Console(stderr=to_stderr, markup=False, highlight=False).print(table)


def show_columns(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, to_stderr: bool = False) -> None:
    """Print a table of rows under a header; to standard error, where standard output is for a program to read."""
    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    Console(stderr=to_stderr, markup=False, highlight=False).print(table)


class Steps(Callback):
    """How a training goes on, on standard error: first what it is doing before its first step, then step by step."""

    def __init__(self, show: _Show) -> None:
        """``show``: what `_display` gives."""
        self._display = show
        self._step = self._steps = 0

    def __call__(self, step: Progress) -> None:
        """Show a step."""
        self._step, self._steps, parts = step.step, step.steps, _parts(step)
        line = ", ".join([*parts, f"{step.seconds_left:.0f} s left"])
        self._display(step.step, step.steps, parts, f"step {step.step}/{step.steps}: {line}")

    def on_phase(self, what: str) -> None:
        """Show what is going on now."""
        self._display(self._step, self._steps, [what], "")


@contextmanager
def progress_display() -> Iterator[Steps]:
    """Within: shows a training's steps, and what it does before them, on standard error."""
    with _display() as show:
        yield Steps(show)


@contextmanager
def job_display() -> Iterator[Callable[[int, int, str], None]]:
    """Within: a function that shows on standard error how many jobs are done, of how many, and the last one."""
    began = time.monotonic()
    with _display() as show:

        def show_job(done: int, jobs: int, last: str) -> None:
            nonlocal began
            if done == 1:  # actors take seconds to start: they don't count
                began = time.monotonic()
            left = (time.monotonic() - began) / max(done - 1, 1) * (jobs - done)
            show(done, jobs, [last], f"{done}/{jobs} chunks of samples, {last}; {left:.0f} s left")

        yield show_job


@contextmanager
def trial_display(seconds: float) -> Iterator[Callable[[Trial, Trial | None, float], None]]:
    """Within: a function that shows on standard error a tuning's latest trial, the best so far, and the seconds gone."""
    with _display() as show:

        def show_trial(trial: Trial, best: Trial | None, gone: float) -> None:
            found = percent(trial.accuracy) if not trial.fault else trial.fault
            what = (
                f"trial {trial.number}, {trial.steps:,} steps: {found}; best {percent(best.accuracy if best else None)}"
            )
            show(round(min(gone, seconds)), round(seconds), [what], f"{gone:.0f} of {seconds:.0f} s, {what}")

        yield show_trial


@contextmanager
def _display() -> Iterator[_Show]:
    """Within: a function of done, total, parts of a text beside a bar, the first the most wanted, and a line of its own.

    The line is for where there is no terminal; "": none. Total 0: it is not known how much there is to do.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    text = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(bar_width=_bar_width(console.width)), MofNCompleteColumn(), TimeRemainingColumn(), text)
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)

        def show(done: int, total: int, parts: Sequence[str], line: str) -> None:
            room = console.width - _bar_width(console.width) - 2 * len(str(total or 0)) - _FRAME
            bar.update(task, completed=done, total=total or None, description=printable(fitting(parts, room)))

        yield show


def _bar_width(columns: int) -> int:
    """Wide terminals have a bar; on narrow ones the figures are wanted more."""
    return max(4, min(40, (columns - 60) // 2 + 4))


def fitting(parts: Sequence[str], room: int) -> str:
    """As many of some parts as fit into so many characters; the first one always, cut if it must be."""
    shown = [parts[0][: max(room, 1)]] if parts else []
    for part in parts[1:]:
        if len(", ".join([*shown, part])) > room:
            break
        shown.append(part)
    return ", ".join(shown)


def _lines() -> _Show:
    """A line now and then from the first call on, and always the last one."""
    told: float | None = None

    def show(done: int, total: int, parts: Sequence[str], line: str) -> None:
        nonlocal told
        if not line:
            return
        now = time.monotonic()
        told = now if told is None else told
        if done == total or now - told >= _LINE_SECONDS:
            told = now
            say(line)

    return show


def describe(progress: Progress) -> str:
    """Loss, validation accuracy, the weakest layer's signal, speed and workers, as one short text."""
    return ", ".join(_parts(progress))


def _parts(progress: Progress) -> list[str]:
    parts = []
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    if progress.validation is not None:
        parts.append(f"validation {percent(progress.validation)}")
    if progress.weakest is not None:
        layer, snr = progress.weakest
        parts.append(f"signal/noise {snr:.2f} (layer {layer})")
    if progress.noisy_forwards_per_second:
        rate = _in_units(progress.noisy_forwards_per_second, (" thousand", " million", " billion"), 2)
        parts.append(f"{rate} noisy forward passes/s")
    if progress.bottleneck is not None:
        phase, share = progress.bottleneck
        parts.append(f"{phase} takes {100 * share:.0f}%")
    if progress.workers:
        parts.append(f"{progress.workers} workers" if progress.workers > 1 else "1 worker")
    if progress.retries:
        parts.append(f"{progress.retries} calls retried")
    return parts


def percent(share: float | None) -> str:
    """A share for people to read."""
    return "-" if share is None else f"{100 * share:.2f}%"


def file_size(count: float) -> str:
    """A number of bytes for people to read."""
    return _in_units(count, (" kB", " MB", " GB"), 1, " bytes")


def _in_units(count: float, names: Sequence[str], digits: int, one: str = "") -> str:
    """A number in the largest unit that it has at least one of; each is 1,000 of the one before."""
    for power, name in reversed(list(enumerate(names, start=1))):
        if count >= 1000**power:
            return f"{count / 1000**power:.{digits}f}{name}"
    return f"{count:.0f}{one}"
