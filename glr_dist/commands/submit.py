"""The command ``glr-dist submit``."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.following import follow_to_the_end
from glr_dist.commands.options import address_option, new_config, run_stem
from glr_dist.commands.terminal import say, tell
from glr_dist.errors import UserError
from glr_dist.store.places import dated

if TYPE_CHECKING:
    from glr_dist.launch.package import Chosen

_SHOWN = 10  # names of what stays behind


@click.command(short_help="Run a command as a job on a cluster.", context_settings={"allow_interspersed_args": False})
@address_option
@click.option("--follow/--no-follow", default=True, show_default=True, help="Print the job's log until it ends.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave these files behind; repeatable.")
@click.option("--dry-run", is_flag=True, help="Say which files would travel, and send nothing.")
@click.argument("arguments", metavar="-- COMMAND [ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def submit(
    context: click.Context,
    address: str | None,
    follow: bool,
    exclude: Sequence[str],
    dry_run: bool,
    arguments: Sequence[str],
) -> None:
    """Run COMMAND, such as `train mnist-threshold`, as a job on a Ray cluster where glr-dist is installed.

    The current folder travels with it, without data, runs, caches, hidden files, and what is called like a secret.
    Relative places become absolute ones, as the cluster sees them. The job's exit code becomes this command's.
    """
    from glr_dist.launch.address import job_client
    from glr_dist.launch.entrypoint import make_entrypoint
    from glr_dist.launch.jobs import files_for, submit_job

    folder, group = Path.cwd(), context.find_root().command
    assert isinstance(group, click.Group)
    entrypoint = make_entrypoint(group, arguments, folder, places_of_results)
    chosen = files_for(entrypoint, folder, exclude=exclude)
    if dry_run:
        for name, size in chosen.sizes.items():
            tell(f"{size:>12,}  {name}")
        _say_what_travels(chosen)
        say(f"would run: {shlex.join(entrypoint.command)}")
        return
    client = job_client(address)
    job = submit_job(client, entrypoint, folder, chosen)
    say(f"job {job}: {shlex.join(entrypoint.command)}")
    _say_what_travels(chosen)
    if not follow:
        click.echo(job)
        return
    follow_to_the_end(client, job, address)


def _say_what_travels(chosen: Chosen) -> None:
    size = sum(chosen.sizes.values())
    say(f"travels with the job: {len(chosen.sizes):,} files, {size:,} bytes (--dry-run lists them)")
    if chosen.secrets:
        more = f" and {len(chosen.secrets) - _SHOWN} more" if len(chosen.secrets) > _SHOWN else ""
        shown = ", ".join(chosen.secrets[:_SHOWN])
        say(f"stays behind, since it is called like a secret or is a link to what stays: {shown}{more}")


def places_of_results(command: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Where the results go of a command that was not told: the job's own folder is deleted with what it wrote."""
    if command == "train" and not (parameters["run_dir"] or parameters["resumed"]):
        # nothing can be claimed from here: the cluster may see other folders
        return {"run_dir": f"{dated(run_stem(parameters['preset'] or parameters['data']))}-{secrets.token_hex(2)}"}
    if command == "tune" and not parameters["out"]:
        return {"out": new_config(parameters["preset"])}
    if command == "attack" and not parameters["out"]:
        raise UserError("submit -- attack: a job's own folder is deleted with what it wrote; give --out DIR")
    return {}
