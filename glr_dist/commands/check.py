"""The command ``glr-dist check``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from glr_dist.commands.options import DEFAULT_PRESET, config_overrides, run_options, settings_option
from glr_dist.launch.place import PLACE


@click.command(short_help="Check a cluster before a run.")
@run_options
@click.option("--run-dir", type=PLACE, metavar="DIR", help="Folder or URI that the run would be written to.")
@settings_option
def check(preset: str | None, run_dir: str | None, settings: Sequence[str], **options: Any) -> None:
    """Check on every node of the cluster (RAY_ADDRESS, or this machine) what a run of PRESET would need.

    Asks every node for its versions, the data, and write access to the run's folder; compares CPUs, GPUs and kinds of
    devices with what is asked for. Ends with exit code 2 when a run would fail.
    """
    from glr_dist.config import load_config

    config = load_config(preset or DEFAULT_PRESET, config_overrides(options, settings))
    from glr_dist.launch.node_report import show_reports
    from glr_dist.launch.preflight import preflight, refuse
    from glr_dist.workers.cluster import connected

    with connected():
        reports = preflight(config, run_dir)
    show_reports(reports)
    refuse(reports, config)
    click.echo(f"ready: {len(reports)} node{'s' if len(reports) > 1 else ''}")
