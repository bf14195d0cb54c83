"""The forecast drawn: how many steps of one process W workers do in its time, by who reconstructs."""

from __future__ import annotations

from matplotlib.figure import Figure

from glr_dist.planning.forecast import DRIVER, WORKERS, Link, Work, counts, forecast
from glr_dist.reporting.style import COLUMN, drawn, line_style, rendered


def picture(work: Work, link: Link, most: int, kind: str) -> bytes:
    """A png, svg or pdf file."""
    figure = drawn(lambda: _figure(work, link, most))
    assert figure is not None
    return rendered(figure, kind)


def _figure(work: Work, link: Link, most: int) -> Figure:
    figure = Figure(figsize=(COLUMN, 0.75 * COLUMN), layout="constrained")
    axes, numbers = figure.subplots(), counts(most)[1:]
    for index, (placement, label) in enumerate(((DRIVER, "losses alone"), (WORKERS, "losses and gradients"))):
        times = [work.alone / forecast(work, link, workers, placement).seconds for workers in numbers]
        axes.plot(numbers, times, marker=".", label=f"workers send {label}", **line_style(index))
    axes.plot(numbers, numbers, label="as many times as workers", **line_style(2))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    ticks = [4**power for power in range(most.bit_length() // 2 + 1)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlabel("workers")
    axes.set_ylabel("times the speed of one process")
    axes.legend()
    return figure
