"""The figures of runs: what they learn over their steps, how sure their gradients are, how fast they go.

A line is the mean over the seeds of a group, a band its 95% interval (Student's t); a group of one run has no band.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from glr_dist.reporting.story import Curve, Group, Story
from glr_dist.reporting.style import COLUMN, drawn, line_style

_BINS = 80  # points of a noisy curve
_ASPECT = 0.66
_SHORT = 22  # characters of labels that stand two in a row
_LEGEND_INCHES = 0.14  # of a legend's row
_MOST_LAYERS = 8


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure with what it is called and what it shows in words, for those who can't see it."""

    name: str  # of its file, without the ending
    title: str
    alt: str
    figure: Figure


def run_pictures(groups: Sequence[Group]) -> list[Picture]:
    """The figures for which the runs have something to show."""
    pictures = [
        _curves(groups, "validation_accuracy", "Validation accuracy", "accuracy", share=True),
        _curves(groups, "loss", "Training loss, noisy passes", "loss"),
        None if _has_classes(groups) else _curves(groups, "validation_loss", "Validation loss", "loss"),
        _over_time(groups),
        _signals(groups),
        _rates(groups),
        _beside(groups),
    ]
    return [picture for picture in pictures if picture is not None]


def _has_classes(groups: Sequence[Group]) -> bool:
    """Whether accuracies tell of the runs; targets that are numbers have losses alone."""
    return any(len(story.series("validation_accuracy")[0]) for group in groups for story in group.stories)


def draw_curve(axes: Any, curve: Curve, number: int, label: str) -> None:
    """A line over its band."""
    style = line_style(number)
    if curve.half is not None:
        low, high = curve.mean - curve.half, curve.mean + curve.half
        axes.fill_between(curve.steps, low, high, color=style["color"], alpha=0.18, linewidth=0, zorder=1)
    marker = "." if len(curve.steps) == 1 else None
    axes.plot(curve.steps, curve.mean, label=label, marker=marker, zorder=2, **style)


def picture(name: str, title: str, alt: str, draw: Callable[[], Figure | None]) -> Picture | None:
    """A picture of a figure, drawn in the papers' style; None where there is nothing to show."""
    figure = drawn(draw)
    return None if figure is None else Picture(name=name, title=title, alt=alt, figure=figure)


def sheet(width: float = COLUMN, height: float | None = None) -> Figure:
    """An empty figure of that width in inches."""
    return Figure(figsize=(width, width * _ASPECT if height is None else height), layout="constrained")


def legend(figure: Figure, axes: Any) -> None:
    """Above the axes, where no line is under it, in a figure that is the higher for it; none for a single line."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        columns = 2 if max(map(len, labels)) <= _SHORT else 1
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + _LEGEND_INCHES * -(-len(labels) // columns))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def shares_axis(axes: Any, values: Sequence[float]) -> None:
    """Shares in per cent, from where the curves are told apart to just above the best."""
    best, least = max(values), min(values)
    low = max(least, 1 - 6 * (1 - best), 0.0)
    margin = 0.06 * max(best - low, 0.01)
    axes.set_ylim(low - margin, best + margin)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _curves(groups: Sequence[Group], series: str, title: str, unit: str, *, share: bool = False) -> Picture | None:
    curves = {group.name: group.curve(series).thinned(_BINS) for group in groups}
    curves = {name: curve for name, curve in curves.items() if len(curve.steps)}
    if not curves:
        return None

    def draw() -> Figure:
        figure = sheet()
        axes = figure.add_subplot()
        for number, (name, curve) in enumerate(curves.items()):
            draw_curve(axes, curve, number, name)
        axes.set(xlabel="step", ylabel=unit)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if share:
            shares_axis(axes, [value for curve in curves.values() for value in curve.mean.tolist()])
        legend(figure, axes)
        return figure

    ends = "; ".join(f"{name}: {_words(curve, share)}" for name, curve in curves.items())
    return picture(series.replace("_", "-"), title, f"{title} over the steps. {ends}.", draw)


def _words(curve: Curve, share: bool) -> str:
    def told(value: float) -> str:
        return f"{100 * value:.1f}%" if share else f"{value:.4g}"

    first, last = told(float(curve.mean[0])), told(float(curve.mean[-1]))
    return f"from {first} at step {curve.steps[0]} to {last} at {curve.steps[-1]}"


def _over_time(groups: Sequence[Group]) -> Picture | None:
    """Validation accuracy against the seconds of training, a line for each run."""
    lines: list[tuple[int, str, np.ndarray, np.ndarray]] = []
    for number, group in enumerate(groups):
        for story in group.stories:
            clock = dict(zip(*(part.tolist() for part in story.series("seconds")), strict=True))
            steps, values = story.series("validation_accuracy")
            seconds = np.array([clock.get(step, np.nan) for step in steps.tolist()])
            if len(steps):
                lines.append((number, group.name, seconds, values))
    if not lines:
        return None

    def draw() -> Figure:
        figure = sheet()
        axes = figure.add_subplot()
        told: set[int] = set()
        for number, name, seconds, values in lines:
            label = "_" if number in told else name
            told.add(number)
            axes.plot(seconds, values, label=label, linewidth=0.9, **line_style(number))
        axes.set(xlabel="seconds of training", ylabel="validation accuracy")
        shares_axis(axes, [value for *_, values in lines for value in values.tolist()])
        legend(figure, axes)
        return figure

    ends = "; ".join(f"{name}: {100 * values[-1]:.1f}% after {seconds[-1]:.0f} s" for _, name, seconds, values in lines)
    return picture("accuracy-over-time", "Validation accuracy over time", f"A line for each run. {ends}.", draw)


def _signals(groups: Sequence[Group]) -> Picture | None:
    """Signal-to-noise ratio of each layer's gradient."""
    curves: dict[str, Curve] = {}
    for group in groups:
        names = dict.fromkeys(name for story in group.stories for name in story.names() if name.startswith("snr/"))
        for name in names:
            curve = group.curve(name)
            if len(curve.steps):
                layer = f"layer {name.removeprefix('snr/')}"
                curves[layer if len(groups) == 1 else f"{group.name}, {layer}"] = curve.thinned(_BINS)
    if not curves:
        return None
    shown = dict(list(curves.items())[:_MOST_LAYERS])

    def draw() -> Figure:
        figure = sheet()
        axes = figure.add_subplot()
        for number, (name, curve) in enumerate(shown.items()):
            draw_curve(axes, curve, number, name)
        axes.axhline(1, color="#666666", linewidth=0.7)
        axes.set(xlabel="step", ylabel="signal-to-noise ratio", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        legend(figure, axes)
        return figure

    means = "; ".join(
        f"{name}: {float(np.exp(np.log(np.maximum(c.mean, 1e-9)).mean())):.2g}" for name, c in shown.items()
    )
    alt = f"Signal-to-noise ratio of each layer's gradient over the steps; below 1 it is more noise. Typical: {means}."
    return picture("signal-to-noise", "How sure the gradient is", alt, draw)


def _rates(groups: Sequence[Group]) -> Picture | None:
    """Noisy forward passes a second."""
    runs = [(number, group.name, story.rate()) for number, group in enumerate(groups) for story in group.stories]
    runs = [(number, name, rate) for number, name, rate in runs if len(rate[0])]
    if not runs:
        return None

    def draw() -> Figure:
        figure = sheet()
        axes = figure.add_subplot()
        told: set[int] = set()
        for number, name, (steps, values) in runs:
            axes.plot(steps, values / 1e6, label="_" if number in told else name, linewidth=0.8, **line_style(number))
            told.add(number)
        axes.set(xlabel="step", ylabel="million passes/s")
        axes.set_ylim(0, None)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        legend(figure, axes)
        return figure

    means = "; ".join(f"{name}: {values.mean() / 1e6:.3g} million" for _, name, (_, values) in runs)
    return picture("throughput", "Throughput", f"Noisy forward passes a second, of each run. Mean: {means}.", draw)


def _beside(groups: Sequence[Group]) -> Picture | None:
    """What was found of checkpoints beside the runs: clean and under FGSM."""
    found: list[tuple[str, Sequence[Mapping[str, Any]]]] = [
        (story.name, story.evaluations) for group in groups for story in group.stories if story.evaluations
    ]
    if not found:
        return None

    def draw() -> Figure:
        figure = sheet()
        axes = figure.add_subplot()
        for number, (name, lines) in enumerate(found):
            style = line_style(number)
            for key, marker, what in (("accuracy", "o", "clean"), ("fgsm_accuracy", "v", "FGSM")):
                points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
                if points:
                    axes.plot(*zip(*points, strict=True), marker=marker, label=f"{name}, {what}", **style)
        axes.set(xlabel="step", ylabel="validation accuracy")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
        legend(figure, axes)
        return figure

    title = "Checkpoints evaluated beside the run"
    return picture("beside", title, f"{title}: accuracy as it is, and under FGSM on the network itself.", draw)


def bytes_a_step(story: Story) -> dict[str, float] | None:
    """What a step sent over the wire: up, down, in bytes; None where nothing crossed one, or it isn't known."""
    result = story.result
    if result is None or not result["workers"] or not result["steps"]:
        return None
    return {way: result[f"bytes_{way}"] / result["steps"] for way in ("up", "down")}
