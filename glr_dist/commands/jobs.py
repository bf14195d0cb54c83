"""The command ``glr-dist jobs``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from glr_dist.commands.following import follow_to_the_end
from glr_dist.commands.options import address_option
from glr_dist.commands.terminal import tell
from glr_dist.errors import UserError, printable

if TYPE_CHECKING:
    from ray.job_submission import JobDetails


@click.command(short_help="List a cluster's jobs, stop one, or print its log.")
@address_option
@click.option("--stop", metavar="ID", help="Stop this job; a run writes a checkpoint first.")
@click.option("--logs", metavar="ID", help="Print what this job has printed so far.")
@click.option(
    "--follow", metavar="ID", help="Print what this job prints until it ends; its exit code becomes this one's."
)
def jobs(address: str | None, stop: str | None, logs: str | None, follow: str | None) -> None:
    """List the jobs that were sent to a cluster, stop one, or print its log."""
    given = [name for name, value in (("--stop", stop), ("--logs", logs), ("--follow", follow)) if value is not None]
    if len(given) > 1:
        raise UserError(f"{given[1]}: can't be given with {given[0]}; leave one out")
    from glr_dist.launch.address import job_client
    from glr_dist.launch.jobs import known_job, list_jobs, stop_job

    client = job_client(address)
    if logs is not None:
        click.echo(client.get_job_logs(known_job(client, logs, "--logs")), nl=False)
        return
    if follow is not None:
        follow_to_the_end(client, known_job(client, follow, "--follow"), address)
    if stop is not None:
        details, ran = stop_job(client, stop)
        state = str(details.status).lower()
        tell(f"job {stop}: {state}" if ran else f"job {stop} was over already: {state}")
        return
    _show_jobs(list_jobs(client))


def _show_jobs(found: Sequence[JobDetails]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        click.echo("no jobs")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("job", "status", "exit", "started", "seconds"):
        table.add_column(title, no_wrap=True)
    table.add_column("command", no_wrap=True, overflow="ellipsis")
    for job in found:
        code = "" if job.driver_exit_code is None else str(job.driver_exit_code)
        command = printable(job.entrypoint)
        table.add_row(printable(str(job.submission_id)), str(job.status), code, *_times(job), command)
    width = None if sys.stdout.isatty() else 10_000  # a program that reads this wants whole lines
    Console(markup=False, highlight=False, width=width).print(table)


def _times(job: JobDetails) -> tuple[str, str]:
    """When a job started, in local time, and how long it ran or has been running; Ray counts milliseconds."""
    if not job.start_time:
        return "", ""
    end = job.end_time / 1000 if job.end_time else time.time()
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.start_time / 1000))
    return started, f"{end - job.start_time / 1000:.0f}"
