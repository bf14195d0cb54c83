"""Runs side by side: in what they differ, what they came to, how they got there, what they withstand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glr_dist.core.intervals import student
from glr_dist.reporting.figures import bytes_a_step
from glr_dist.reporting.robustness import Evaluation, robustness_rows, share_words
from glr_dist.reporting.story import Group, Story, differences, grouped

_POINTS = 6  # steps at which curves are told in a table


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of words: a title, the columns' names, and rows as long."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def compare(stories: Sequence[Story], evaluations: Sequence[Evaluation] = ()) -> list[Table]:
    """The tables that tell runs apart; those for which there is nothing to say are left out."""
    groups = grouped(stories)
    tables = [_differing(groups), _reached(groups), _curves(groups)]
    header, rows = robustness_rows(evaluations)
    tables.append(Table(title="Robustness, with 95% intervals", header=header, rows=rows))
    return [table for table in tables if table.rows]


def as_json(stories: Sequence[Story], evaluations: Sequence[Evaluation] = ()) -> dict[str, Any]:
    """The same as JSON values."""
    groups = grouped(stories)
    return {
        "runs": [str(story.run) for story in stories],
        "differences": differences(stories),
        "groups": [
            {
                "name": group.name,
                "runs": [story.name for story in group.stories],
                "test": _mean([found["accuracy"] for found in _found(group, "test")]),
                "validation": _mean([found["accuracy"] for found in _found(group, "validation")]),
                "curve": _curve_json(group),
            }
            for group in groups
        ],
        "robustness": [dict(evaluation.report) for evaluation in evaluations],
    }


def _differing(groups: Sequence[Group]) -> Table:
    """A row for each setting, of a group its values."""
    rows = []
    for key in differences([story for group in groups for story in group.stories]):
        values = [[_value(story.settings.get(key)) for story in group.stories] for group in groups]
        rows.append([key, *(", ".join(dict.fromkeys(each)) for each in values)])
    return Table(title="What differs", header=["", *(group.name for group in groups)], rows=rows)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "-" if value is None else str(value)


def _reached(groups: Sequence[Group]) -> Table:
    names = ("runs", "test accuracy (95%)", "validation accuracy (95%)", "steps", "seconds", "noisy passes a second")
    columns = [
        [str(len(group.stories)), *(_accuracy(group, split) for split in ("test", "validation")), *_costs(group)]
        for group in groups
    ]
    rows = [list(row) for row in zip((*names, "bytes up, a step"), *columns, strict=True)]
    losses = [[f"{split} loss", *(_losses(group, split) for group in groups)] for split in ("test", "validation")]
    rows[3:3] = [row for row in losses if any(cell != "-" for cell in row[1:])]
    return Table(title="What they came to", header=["", *(group.name for group in groups)], rows=rows)


def _found(group: Group, split: str) -> list[Mapping[str, Any]]:
    """What is known of a split, where it has classes to be right in."""
    known = (story.accuracy(split) for story in group.stories)
    return [found for found in known if found is not None and found["accuracy"] is not None]


def _losses(group: Group, split: str) -> str:
    """The mean loss, with the 95% interval over seeds where there are several."""
    values = [story.result[split]["loss"] for story in group.stories if story.result and story.result.get(split)]
    if not values:
        return "-"
    half = f" ± {student(values):.4g}" if len(values) > 1 else ""
    return f"{float(np.mean(values)):.4g}{half}"


def _accuracy(group: Group, split: str) -> str:
    """Of one run with the interval over its examples, of several with that over the seeds."""
    found = _found(group, split)
    if len(found) < 2:
        return share_words(found[0]) if found else "-"
    return share_words(_mean([each["accuracy"] for each in found]) or {})


def _mean(values: Sequence[float]) -> dict[str, float | None] | None:
    if not values:
        return None
    mean, half = float(np.mean(values)), student(values) if len(values) > 1 else None
    return {"mean": mean, "low": None if half is None else mean - half, "high": None if half is None else mean + half}


def _costs(group: Group) -> list[str]:
    def over(values: Sequence[float], digits: str) -> str:
        return " to ".join(dict.fromkeys(format(end(values), digits) for end in (min, max))) if values else "-"

    results = [story.result for story in group.stories if story.result is not None]
    sent = [found["up"] for story in group.stories if (found := bytes_a_step(story)) is not None]
    return [
        over([story.steps for story in group.stories], ",d"),
        over([result["seconds"] for result in results], ",.1f"),
        over([result["noisy_forwards_per_second"] for result in results], ",.0f"),
        over(sent, ",.0f"),
    ]


def _curves(groups: Sequence[Group]) -> Table:
    """Validation accuracy at a few steps."""
    curves = [group.curve("validation_accuracy") for group in groups]
    steps = sorted({int(step) for curve in curves for step in curve.steps})
    picked = (
        [steps[place] for place in sorted({round(p) for p in np.linspace(0, len(steps) - 1, _POINTS)})] if steps else []
    )
    rows = []
    for step in picked:
        cells = [f"{step:,}"]
        for curve in curves:
            (at,) = np.nonzero(curve.steps == step)
            if not len(at):
                cells.append("-")
                continue
            band = "" if curve.half is None else f" ± {100 * curve.half[at[0]]:.1f}"
            cells.append(f"{100 * curve.mean[at[0]]:.1f}%{band}")
        rows.append(cells)
    title = "Validation accuracy on the way (mean and half the 95% interval over seeds)"
    return Table(title=title, header=["step", *(group.name for group in groups)], rows=rows)


def _curve_json(group: Group) -> dict[str, Any]:
    curve = group.curve("validation_accuracy")
    half = None if curve.half is None else curve.half.tolist()
    return {"steps": curve.steps.tolist(), "validation": curve.mean.tolist(), "half": half}
