"""How figures look: as in a paper's column, legible in grey and to the colour-blind; no global state of matplotlib.

Colours are those of Okabe and Ito (2008); each line has dashes of its own too.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLUMN, PAGE = 3.25, 6.75  # widths in inches, of a column and of both
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#f0e442")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.dpi": 150,
    "pdf.fonttype": 42,  # text that stays text, as publishers ask for
    "svg.fonttype": "path",
    "svg.hashsalt": "glr_dist",
    "text.parse_math": False,
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Within: figures are drawn in this style, whatever the user's own settings are."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


def line_style(number: int) -> dict[str, Any]:
    """Of the line with that number in a figure."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}


def drawn(draw: Callable[[], Figure | None]) -> Figure | None:
    """A figure in this style; None where there is nothing to show."""
    with paper_style():
        return draw()


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as the bytes of a pdf, svg or png file: the same figure, the same bytes."""
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}[kind]
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    with paper_style():
        figure.savefig(file, format=kind, metadata=metadata)
    return file.getvalue()
