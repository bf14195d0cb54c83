"""The report's pictures, drawn without matplotlib's global state: the same report gives the same bytes.

Accuracy against the size of the attack (a colour for each network, a line style for each attack), samples beside their
adversarial twins, and a heat map of networks x corruptions.

m: samples shown. C, H, W: channels, height, width.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from glr_dist.attacks.attack import ATTACKS
from glr_dist.robustness.findings import Findings, Specimens
from glr_dist.robustness.report.reading import Report, corruption_means
from glr_dist.robustness.report.tally import kinds_of, label

_DOTS_PER_INCH = 120
_DASHES: tuple[Any, ...] = (  # by the attack's place among all; again from the first where there are more
    (0, (1, 3)),
    (0, (6, 2)),
    (0, (3, 1)),
    (0, (6, 2, 1, 2)),
    (0, (6, 2, 1, 2, 1, 2)),
    (0, (2, 1, 2, 4)),
    (0, (8, 1, 1, 1)),
)
_MARKERS = {"none": "x", "transfer": "o", "white-box": "s", "labels": "^", "scores": "v", "exact": "D"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One file of the report."""

    file: str
    title: str
    png: bytes


def draw_pictures(report: Report, findings: Findings) -> list[Picture]:
    """All pictures for which there is something to show in a report, or in the findings that it was made of."""
    with matplotlib.style.context(["default", {"text.parse_math": False}]):  # neither a user's settings nor a $ matter
        figures = {}
        if report["worst"]:
            figures["accuracy.png"] = ("Accuracy against the size of the attack", accuracy_figure(report))
        if report["corruptions"]:
            figures["corruptions.png"] = ("Accuracy on corrupted samples", corruption_figure(report))
        for number, specimens in enumerate(findings.specimens):
            title = _specimens_title(findings, specimens)
            figure = specimens_figure(specimens, findings.attacks[specimens.outcome].attack.epsilon, title)
            if figure is not None:
                figures[f"samples-{number:02d}-{_slug(title)}.png"] = (title, figure)
        return [Picture(file=file, title=title, png=_png(figure)) for file, (title, figure) in figures.items()]


def accuracy_figure(report: Report) -> Figure:
    """Accuracy against epsilon: a thin line for each attack, the worst case bold, a band where there are seeds."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.add_subplot()
    chance = 1 / report["conditions"]["data"]["classes"]
    colours = _colours([model["model"] for model in report["models"]])
    for model in report["models"]:
        name, origin = model["model"], {0.0: model["clean"]}
        mine = [line for line in report["lines"] if line["model"] == name]
        for kind in kinds_of(mine):
            points = {line["epsilon"]: line for line in mine if (line["attack"], line["knowledge"]) == kind}
            _draw_line(axes, origin | points, f"{name}: {kind[0]}, {kind[1]}", color=colours[name], **_style(*kind))
        bold = {e["epsilon"]: e["worst"] for e in report["worst"] if e["model"] == name and e["worst"] is not None}
        if bold:
            _draw_line(axes, origin | bold, f"{name}: worst case", color=colours[name], linewidth=3, alpha=0.8)
    axes.axhline(chance, color="black", linestyle="--", linewidth=1, label="chance")
    axes.set(xlim=(0, _reach(report, chance)), ylim=(0, 1), xlabel="epsilon (L-infinity, in input units)")
    axes.set(ylabel="accuracy", title="Accuracy against the size of the attack")
    axes.grid(alpha=0.3)
    figure.legend(handles=_legend(report, colours), loc="outside right upper", fontsize="small", handlelength=4)
    return figure


def specimens_figure(specimens: Specimens, epsilon: float, title: str) -> Figure | None:
    """Clean | adversarial | perturbation, a row for each sample; None for data that are no images.

    Of a pixel's channels, the perturbation shows the one that moved most; its colours end at +-epsilon.
    """
    if specimens.clean.ndim != 4 or specimens.clean.shape[1] not in (1, 3) or not len(specimens.clean):
        return None
    count = len(specimens.clean)
    figure = Figure(figsize=(4.6, 1.4 * count + 0.8), layout="constrained")
    grid = figure.subplots(count, 3, squeeze=False)
    limit = max(epsilon, 1e-6)  # a map needs two ends, also at epsilon 0
    for row in range(count):
        clean, adversarial = specimens.clean[row], specimens.adversarial[row]
        for axes, image in zip(grid[row], (clean, adversarial), strict=False):
            axes.imshow(np.moveaxis(image, 0, -1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        shown = _largest(adversarial - clean)
        moved = grid[row, 2].imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        before, after = specimens.before[row], specimens.after[row]
        grid[row, 1].set_title(f"{specimens.labels[row]}: {before} -> {after}", fontsize="small")
        for axes in grid[row]:
            axes.set(xticks=[], yticks=[])
    for axes, name in zip(grid[-1], ("clean", "adversarial", "perturbation"), strict=True):
        axes.set_xlabel(name)
    figure.colorbar(moved, ax=grid[:, 2].tolist(), ticks=[-limit, 0, limit], format="%g", shrink=min(1.0, 3 / count))
    figure.suptitle(f"{title}\ntrue: before -> after", fontsize="small")
    return figure


def corruption_figure(report: Report) -> Figure:
    """A heat map of networks x corruptions, mean over severities; first the clean samples, last the mean."""
    models = {model["model"]: model["clean"]["mean"] for model in report["models"]}
    corruptions, means = corruption_means(report)
    values = np.full((len(models), 1 + len(corruptions)), np.nan)
    for row, (name, clean) in enumerate(models.items()):
        values[row] = [clean, *(means.get((name, kind), {"mean": np.nan})["mean"] for kind in corruptions)]
    figure = Figure(figsize=(2.5 + 0.75 * values.shape[1], 1.8 + 0.4 * len(models)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(values.shape[1]), ["clean", *corruptions], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(models)), list(models))
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "black" if value > 0.6 else "white"
            axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center", color=colour, fontsize="small")
    figure.colorbar(image, label="accuracy")
    axes.set_title("Accuracy on corrupted samples, %, mean over severities", fontsize="medium")
    return figure


def _style(attack: str, knowledge: str) -> dict[str, Any]:
    """How the line of an attack is drawn; that of the proofs is solid."""
    dashes = "-" if knowledge == "exact" else _DASHES[list(ATTACKS).index(attack) % len(_DASHES)]
    return {"linestyle": dashes, "marker": _MARKERS[knowledge], "markersize": 4, "linewidth": 1}


def _draw_line(axes: Any, points: Mapping[float, Mapping[str, Any]], name: str, **style: Any) -> None:
    sizes = sorted(points)
    found = [points[size] for size in sizes]
    axes.plot(sizes, [point["mean"] for point in found], label=name, **style)
    if all(point["seeds"] > 1 for point in found):
        low, high = ([point[end] for point in found] for end in ("low", "high"))
        axes.fill_between(sizes, low, high, color=style["color"], alpha=0.12, linewidth=0)


def _reach(report: Report, chance: float) -> float:
    """The first size at which every attack leaves chance or less; else the largest."""
    by_size: dict[float, list[float]] = {}
    for line in report["lines"]:
        shown = by_size.setdefault(line["epsilon"], [])
        if line["knowledge"] != "none":  # noise may never get there
            shown.append(line["mean"])
    reached = [size for size, means in by_size.items() if means and max(means) <= chance]
    return float(min(reached, default=max(by_size))) or 1.0  # an axis needs two ends


def _colours(names: Sequence[str]) -> dict[str, Any]:
    few = mpl.colormaps["tab10" if len(names) <= 10 else "tab20"]
    return {name: few(index % few.N) for index, name in enumerate(names)}


def _legend(report: Report, colours: Mapping[str, Any]) -> list[Any]:
    kinds = {kind: kind[0] if kind[1] in ("none", "exact") else ", ".join(kind) for kind in kinds_of(report["lines"])}
    seeds = any(model["clean"]["seeds"] > 1 for model in report["models"])
    return [
        *(Patch(color=colour, label=name) for name, colour in colours.items()),
        *(Line2D([], [], color="grey", label=name, **_style(*kind)) for kind, name in kinds.items()),
        Line2D([], [], color="grey", linewidth=3, label="worst case"),
        Line2D([], [], color="black", linewidth=1, linestyle="--", label="chance"),
        *([Patch(color="grey", alpha=0.2, label="95% over seeds")] if seeds else []),
    ]


def _largest(moved: NDArray[np.float32]) -> NDArray[np.float32]:
    """[C, H, W] -> [H, W]: of each pixel's channels the largest change, with its sign."""
    channel = np.abs(moved).argmax(axis=0)[None]
    shown: NDArray[np.float32] = np.take_along_axis(moved, channel, axis=0)[0]
    return shown


def _specimens_title(findings: Findings, specimens: Specimens) -> str:
    outcome = findings.attacks[specimens.outcome]
    name = f"{label(findings.models, outcome.model)}, {outcome.attack.name} at {outcome.attack.epsilon:g}"
    surrogate = outcome.surrogate
    return name if surrogate is None else f"{name}, from {label(findings.surrogates, surrogate)}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:80]


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return file.getvalue()
