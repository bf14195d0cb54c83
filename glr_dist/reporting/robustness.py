"""What ``glr-dist evaluate --out`` found of runs: read from its report.json, shown beside what they learned.

An entry of a report belongs to a run where it speaks of the parameters of one of its checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from glr_dist.errors import UserError
from glr_dist.reporting.figures import Picture, legend, picture, sheet
from glr_dist.reporting.style import line_style
from glr_dist.store.storage import Storage

_MOST_BYTES = 100 * 10**6  # of a report
_SAMPLES = 6  # pictures of adversarial samples that are shown


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One report of an evaluation.

    Attributes:
        place: its folder.
        report: the content of report.json.
        samples: pictures of adversarial samples, file name -> PNG.
    """

    place: str
    report: Mapping[str, Any] = field(repr=False)
    samples: Mapping[str, bytes] = field(repr=False)


def read_evaluation(place: str) -> Evaluation:
    """The report in a folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    folder = Storage.at(place)
    try:
        report = json.loads(folder.read("report.json", _MOST_BYTES))
        models, worst = report["models"], report["worst"]
        assert isinstance(models, list) and isinstance(worst, list)
    except FileNotFoundError as error:
        raise UserError(
            f"--evaluation {place}: holds no report.json; give the folder of glr-dist evaluate --out"
        ) from error
    except (ValueError, LookupError, TypeError, AssertionError, RecursionError) as error:
        raise UserError(f"--evaluation {place}: its report.json is damaged, or of another program") from error
    names = [name for name in folder.list("pictures") if name.startswith("samples-")][:_SAMPLES]
    samples = {name: folder.read(f"pictures/{name}") for name in names}
    return Evaluation(place=str(folder), report=report, samples=samples)


def robustness_rows(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[list[str]]]:
    """A table: a row for each attack, size and corruption, a column for each network of the reports."""
    names: list[str] = []
    cells: dict[str, dict[str, str]] = {}

    def put(row: str, model: str, found: Mapping[str, Any] | None) -> None:
        if model not in names:
            names.append(model)
        if found is not None:
            cells.setdefault(row, {})[model] = share_words(found)

    for evaluation in evaluations:
        report = evaluation.report
        for entry in report["models"]:
            put("clean", entry["model"], entry["clean"])
        for line in report["lines"]:
            known = "" if line["knowledge"] in ("none", "exact") else f", {line['knowledge']}"
            put(f"{line['attack']}{known}, size {line['epsilon']:g}", line["model"], line)
        for entry in report["worst"]:
            put(f"worst of all, size {entry['epsilon']:g}", entry["model"], entry["worst"])
            put(f"proved, size {entry['epsilon']:g}", entry["model"], entry["exact"])
        for entry in report["corruptions"]:
            put(f"{entry['corruption']}, mean over severities", entry["model"], entry["mean"])
    return ["", *names], [[row, *(found.get(name, "-") for name in names)] for row, found in cells.items()]


def share_words(found: Mapping[str, Any]) -> str:
    """A share with its 95% interval, for people to read."""
    share = found.get("mean", found.get("accuracy"))
    if share is None:
        return "-"
    if found.get("low") is None:
        return f"{100 * share:.1f}%"
    return f"{100 * share:.1f}% ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def epsilon_picture(evaluations: Sequence[Evaluation]) -> Picture | None:
    """Accuracy against the size of the attack: of each network the worst over all attacks, and what was proved."""
    lines: dict[str, dict[float, Mapping[str, Any]]] = {}
    for evaluation in evaluations:
        clean = {entry["model"]: entry["clean"] for entry in evaluation.report["models"]}
        for entry in evaluation.report["worst"]:
            for key, what in (("worst", "worst of all attacks"), ("exact", "proved")):
                if entry[key] is not None:
                    line = lines.setdefault(f"{entry['model']}, {what}", {0.0: clean[entry["model"]]})
                    line[entry["epsilon"]] = entry[key]
    if not lines:
        return None

    def draw() -> Figure:
        figure = sheet()
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(lines.items()):
            sizes, style = sorted(points), line_style(number)
            found = [points[size] for size in sizes]
            low, high = (
                [each["mean"] if each[end] is None else each[end] for each in found] for end in ("low", "high")
            )
            axes.fill_between(sizes, low, high, color=style["color"], alpha=0.18, linewidth=0, zorder=1)
            axes.plot(sizes, [each["mean"] for each in found], marker=".", label=name, zorder=2, **style)
        axes.set(xlabel="size of the attack (L-infinity, inputs in [0, 1])", ylabel="accuracy", ylim=(0, 1))
        axes.set_xlim(0, None)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        legend(figure, axes)
        return figure

    ends = "; ".join(
        f"{name}: " + ", ".join(f"{100 * points[size]['mean']:.1f}% at {size:g}" for size in sorted(points))
        for name, points in lines.items()
    )
    alt = f"Accuracy against the size of the attack, bands are 95% intervals. {ends}."
    return picture("accuracy-against-size", "Accuracy against the size of the attack", alt, draw)
