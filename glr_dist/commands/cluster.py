"""The commands that concern a cluster: ``glr-dist submit``, ``jobs`` and ``check``."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.run_options import DEFAULT_PRESET, config_overrides, run_options, settings_option
from glr_dist.commands.terminal import say

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

_ADDRESS = click.option(
    "--address", metavar="URL", help="The cluster's dashboard.  [default: RAY_ADDRESS, or http://127.0.0.1:8265]"
)


@click.command(
    short_help="Run a command as a job on a cluster.",
    context_settings={"allow_interspersed_args": False},
)
@_ADDRESS
@click.option("--follow/--no-follow", default=True, show_default=True, help="Print the job's log until it ends.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave these files behind; repeatable.")
@click.argument("arguments", metavar="-- COMMAND [ARGS]...", nargs=-1, type=click.UNPROCESSED)
def submit(address: str | None, follow: bool, exclude: Sequence[str], arguments: Sequence[str]) -> None:
    """Run COMMAND, such as `train mnist-threshold`, as a job on a Ray cluster where glr-dist is installed.

    The current folder travels with it, without data, runs, caches and hidden files. Relative folders of data and runs
    become absolute ones, as the cluster sees them. The job's exit code becomes this command's.
    """
    from glr_dist.launch.address import job_client
    from glr_dist.launch.entrypoint import make_entrypoint
    from glr_dist.launch.jobs import STOPPED, exit_code, follow_job, reason, submit_job

    folder = Path.cwd()
    entrypoint = make_entrypoint(arguments, folder)
    client = job_client(address)
    job = submit_job(client, entrypoint, folder, exclude=exclude)
    say(f"job {job}: {shlex.join(entrypoint.command)}")
    if entrypoint.run:
        say(f"its run, as the cluster sees it: {entrypoint.run}")
    if not follow:
        click.echo(job)
        return
    try:
        details = follow_job(client, job, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        say(f"job {job} runs on; stop it with: {_jobs_command(address)} --stop {job}")
        sys.exit(STOPPED)
    why = reason(details)
    say(f"job {job}: {str(details.status).lower()}{': ' + why if why else ''}")
    sys.exit(exit_code(details))


@click.command(short_help="List a cluster's jobs, or stop one.")
@_ADDRESS
@click.option("--stop", metavar="ID", help="Stop this job; a run writes a checkpoint first.")
def jobs(address: str | None, stop: str | None) -> None:
    """List the jobs that were sent to a cluster, or stop one."""
    from glr_dist.launch.address import job_client
    from glr_dist.launch.jobs import list_jobs, stop_job

    client = job_client(address)
    if stop is not None:
        details, ran = stop_job(client, stop)
        state = str(details.status).lower()
        click.echo(f"job {stop}: {state}" if ran else f"job {stop} was over already: {state}")
        return
    _show_jobs(list_jobs(client))


@click.command(short_help="Check a cluster before a run.")
@run_options
@click.option("--run-dir", metavar="DIR", help="Folder or URI that the run would be written to.")
@settings_option
def check(preset: str | None, run_dir: str | None, settings: Sequence[str], **options: Any) -> None:
    """Check on every node of the cluster (RAY_ADDRESS, or this machine) what a run of PRESET would need.

    Asks every node for its versions, the data, and write access to the run's folder; compares CPUs, GPUs and kinds of
    devices with what is asked for. Ends with exit code 2 when a run would fail.
    """
    from glr_dist.config import load_config
    from glr_dist.launch.node_report import show_reports
    from glr_dist.launch.preflight import preflight, refuse

    config = load_config(preset or DEFAULT_PRESET, config_overrides(options, settings))
    with _cluster():
        reports = preflight(config, run_dir)
    show_reports(reports)
    refuse(reports, config)
    click.echo(f"ready: {len(reports)} node{'s' if len(reports) > 1 else ''}")


@contextmanager
def _cluster() -> Iterator[None]:
    """Within: connected to Ray."""
    import ray

    from glr_dist.workers.cluster import connect

    connected_here = connect()
    try:
        yield
    finally:
        if connected_here:
            ray.shutdown()


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
        table.add_row(job.submission_id, str(job.status), code, *_times(job), job.entrypoint)
    width = None if sys.stdout.isatty() else 10_000  # a program that reads this wants whole lines
    Console(markup=False, highlight=False, width=width).print(table)


def _times(job: JobDetails) -> tuple[str, str]:
    """When a job started, in local time, and how long it ran or has been running; Ray counts milliseconds."""
    if not job.start_time:
        return "", ""
    end = job.end_time / 1000 if job.end_time else time.time()
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.start_time / 1000))
    return started, f"{end - job.start_time / 1000:.0f}"


def _jobs_command(address: str | None) -> str:
    from glr_dist.launch.address import shown

    return "glr-dist jobs" + (f" --address {shlex.quote(shown(address))}" if address else "")
