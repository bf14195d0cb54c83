"""The command ``glr-dist submit``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from glr_dist.commands.options import address_option
from glr_dist.commands.terminal import say


@click.command(
    short_help="Run a command as a job on a cluster.",
    context_settings={"allow_interspersed_args": False},
)
@address_option
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


def _jobs_command(address: str | None) -> str:
    from glr_dist.launch.address import shown

    return "glr-dist jobs" + (f" --address {shlex.quote(shown(address))}" if address else "")
