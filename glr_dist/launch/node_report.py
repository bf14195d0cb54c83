"""The pre-flight check as a table for people to read, a line for each node."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from glr_dist.config import Config
from glr_dist.data.source import DataSource
from glr_dist.errors import printable
from glr_dist.launch.preflight import NodeReport, preflight, refuse

_COLUMNS = ("node", "CPUs", "GPUs", "room", "glr_dist", "torch", "ray", "python", "data", "run", "state")


def check_nodes(config: Config, place: str, data: DataSource) -> None:
    """On a cluster of more than one node: refuse a run that would fail later, and show the table that says so.

    Raises:
        UserError: naming the first thing that is wrong.
    """
    import ray

    if sum(node["Alive"] for node in ray.nodes()) < 2:
        return
    reports = preflight(config, place, data=data)
    show_reports(reports, to_stderr=True)
    refuse(reports, config)


def show_reports(reports: Sequence[NodeReport], *, to_stderr: bool = False) -> None:
    """Print the table, with what is wrong in its last column, and below it what is worth knowing without being wrong.

    ``to_stderr``: where standard output is for a program to read.
    """
    table = Table(title="Nodes", title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in _COLUMNS:
        table.add_column(title, overflow="fold", no_wrap=title != "state")
    for report in reports:
        versions = [report.versions.get(package, "-") for package in ("glr_dist", "torch", "ray", "python")]
        table.add_row(
            f"{report.node}{' *' if report.driver else ''}",
            f"{report.cpus:g}",
            f"{report.gpus:g} {report.gpu}".strip(),
            str(report.room),
            *versions,
            "-" if report.data is None else report.data[:8],
            {None: "-", True: "shared", False: "own"}[report.shared],
            printable("; ".join(report.problems) or "ok"),
        )
    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else 10_000  # a log wants one line for each node
    console = Console(stderr=to_stderr, markup=False, highlight=False, width=width)
    console.print(table)
    for line in ("* the driver's node", *remarks(reports)):
        console.print(line)


def remarks(reports: Sequence[NodeReport]) -> list[str]:
    """What does not stand in a run's way, a line each."""
    lines = []
    if any(report.shared is False for report in reports):
        lines.append(
            "note: not all nodes share the run's folder; the run can be resumed from the driver's node only"
            " (a shared folder or s3://... could be resumed from any)"
        )
    if len({report.cpu for report in reports if report.cpu}) > 1:
        lines.append("note: CPUs of different kinds; the last bits of a result may depend on which node did the work")
    return lines
