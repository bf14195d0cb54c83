"""The command ``glr-dist report``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from glr_dist.commands.compare import evaluation_option
from glr_dist.commands.terminal import refuse_taken, tell
from glr_dist.errors import UserError
from glr_dist.launch.place import PLACE


@click.command(short_help="Make a page and figures about runs.")
@click.argument("runs", type=PLACE, metavar="RUN...", nargs=-1, required=True)
@evaluation_option
@click.option("--html", "page", type=PLACE, metavar="FILE", help="Write a page that opens without a network.")
@click.option("--figures", type=PLACE, metavar="DIR", help="Write the figures as PDF and SVG, in a paper's style.")
def report(runs: Sequence[str], evaluations: Sequence[str], page: str | None, figures: str | None) -> None:
    """Make a page about RUNs, and the figures in it as files: curves, signal-to-noise, throughput, filters, robustness.

    Runs that differ in their seed alone become one line with a 95% band.
    """
    if page is None and figures is None:
        raise UserError("report: nothing to write; give --html FILE, --figures DIR, or both")
    from glr_dist.reporting.page import page_of, pictures_of
    from glr_dist.reporting.robustness import read_evaluation
    from glr_dist.reporting.story import read_stories
    from glr_dist.reporting.style import rendered
    from glr_dist.store.storage import Storage

    if page is not None:
        refuse_taken("--html", page, "another name")
    if figures is not None:
        refuse_taken("--figures", figures, "a new folder")
    stories, found = read_stories(runs), [read_evaluation(place) for place in evaluations]
    if page is not None:
        place = Storage.at(page)
        place.parent().write(place.name, page_of(stories, found).encode())
        tell(f"page: {place}")
    if figures is not None:
        folder, pictures = Storage.at(figures), pictures_of(stories, found)
        for picture in pictures:
            for kind in ("pdf", "svg"):
                folder.write(f"{picture.name}.{kind}", rendered(picture.figure, kind))
        tell(f"figures: {', '.join(picture.name for picture in pictures)} in {folder}")
