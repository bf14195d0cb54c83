"""Following a job to its end, for `glr-dist submit` and `glr-dist jobs`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from glr_dist.commands.terminal import say
from glr_dist.store.places import without_password

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def follow_to_the_end(client: JobSubmissionClient, job: str, address: str | None) -> NoReturn:
    """Print what a job prints until it ends, and exit with its code; Ctrl-C leaves it running, and says how to stop it."""
    from glr_dist.launch.jobs import STOPPED, exit_code, follow_job, reason

    try:
        details = follow_job(client, job, lambda text: click.echo(text, nl=False))
    except KeyboardInterrupt:
        say(f"job {job} runs on; stop it with: {_jobs_command(address)} --stop {job}")
        sys.exit(STOPPED)
    why = reason(details)
    say(f"job {job}: {str(details.status).lower()}{': ' + why if why else ''}")
    sys.exit(exit_code(details))


def _jobs_command(address: str | None) -> str:
    return "glr-dist jobs" + (f" --address {shlex.quote(without_password(address))}" if address else "")
