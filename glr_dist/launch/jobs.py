"""Jobs on a cluster: sent with a small working folder, followed line by line, ended with the exit code of their command.

The job's runtime environment (folder and variables) is all there is: inside it, `glr_dist.workers.cluster.connected` joins
the cluster of ``RAY_ADDRESS`` without an environment of its own, so the two can't clash.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glr_dist.errors import UserError, first_line, nearest
from glr_dist.launch.entrypoint import Entrypoint
from glr_dist.launch.package import Chosen, choose_files, pack_files

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

STOPPED = 130
_STOP_SECONDS = 60  # for the checkpoint that a stopped run writes
_POLL_SECONDS = 0.5


def files_for(entrypoint: Entrypoint, folder: Path, *, exclude: Sequence[str] = ()) -> Chosen:
    """What of a folder travels with a command, so that it becomes the job's current one.

    Raises:
        UserError: when the folder is too large, or lacks a file that the command needs.
    """
    token = os.environ.get("RAY_AUTH_TOKEN_PATH")
    apart = [*entrypoint.apart, *([Path(token).expanduser()] if token else [])]
    chosen = choose_files(folder, exclude=exclude, apart=apart)
    for file in sorted(set(entrypoint.files) - set(chosen.sizes)):
        raise UserError(
            f"{file}: is among what stays behind; move it to a folder that travels, or give it another name"
        )
    return chosen


def submit_job(client: JobSubmissionClient, entrypoint: Entrypoint, folder: Path, chosen: Chosen) -> str:
    """Send a job with the files chosen of a folder; returns its id.

    Raises:
        UserError: when the cluster refuses the job.
    """
    with tempfile.TemporaryDirectory() as temporary:
        archive = Path(temporary) / "folder.zip"
        pack_files(folder, chosen.sizes, archive)
        try:
            environment = {"working_dir": str(archive), "env_vars": _variables()}
            return str(client.submit_job(entrypoint=shlex.join(entrypoint.command), runtime_env=environment))
        except RuntimeError as error:
            raise UserError(f"the cluster refused the job: {first_line(error)}") from error


def _variables() -> dict[str, str]:
    """A head on this machine may have been started from an environment that is not on its own PATH."""
    here = str(Path(sys.executable).parent)
    return {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS), "PATH": f"${{PATH}}:{here}"}


def follow_job(
    client: JobSubmissionClient,
    job: str,
    write: Callable[[str], None],
    *,
    tries: int = 10,
    pause: float = _POLL_SECONDS,
) -> JobDetails:
    """Pass on what a job prints until it ends, each piece of its log once; returns what became of it.

    The cluster may fail to answer ``tries`` times in a row; ``pause`` is the time between connections, in seconds.

    Raises:
        UserError: when the cluster doesn't answer any more.
    """
    import aiohttp

    written = 0

    async def tail() -> None:
        """Every connection brings the log from its beginning: skip what is written."""
        nonlocal written
        seen = 0
        async for piece in client.tail_job_logs(job):
            fresh = piece[max(0, written - seen) :]
            seen += len(piece)
            written = max(written, seen)
            if fresh:
                write(fresh)

    lost = (OSError, RuntimeError, aiohttp.ClientError)  # the head is busy, or gone
    failures = 0
    while failures < tries:
        whole, over = True, False
        try:
            asyncio.run(tail())
        except lost:
            whole = False
        try:
            details = client.get_job_info(job)
            over = details.status.is_terminal()
            failures = failures + 1 if over else 0  # over, but its last lines don't come
        except lost:
            failures += 1
        if over and (whole or failures == tries):
            return details
        time.sleep(pause)
    raise UserError(f"the cluster no longer answers; job {job} may still run")


def exit_code(details: JobDetails) -> int:
    """The exit code that a finished job's command left: 0 done, 130 stopped, 1 when it never ran."""
    if details.status == "SUCCEEDED":
        return 0
    if details.status == "STOPPED":
        return STOPPED
    code = details.driver_exit_code or 1
    return 128 - code if code < 0 else code  # a negative one is a signal's number


def reason(details: JobDetails) -> str:
    """In a line, why a job failed, where its log does not say it; "" otherwise."""
    if details.driver_exit_code == 127:
        return "glr-dist is not on the PATH of the cluster's head: install it there, in the environment that runs Ray"
    if details.status == "FAILED" and details.driver_exit_code is None:
        lines = (details.message or "").strip().splitlines() or ["no reason given"]
        return f"the job failed before it ran: {lines[-1].strip()}"
    return ""


def list_jobs(client: JobSubmissionClient) -> list[JobDetails]:
    """The jobs sent to a cluster, the latest last."""
    return sorted((job for job in client.list_jobs() if job.submission_id), key=lambda job: job.start_time or 0)


def known_job(client: JobSubmissionClient, job: str, option: str) -> str:
    """A job's id, once the cluster has proved to know it.

    Raises:
        UserError: it doesn't.
    """
    known = [str(each.submission_id) for each in list_jobs(client)]
    if job not in known:
        raise UserError(f"{option} {job}: no such job; {nearest(job, known) if known else 'there are none'}")
    return job


def stop_job(client: JobSubmissionClient, job: str) -> tuple[JobDetails, bool]:
    """Stop a job and wait until it is over; a run writes a checkpoint first.

    Returns:
        What became of it, and whether it was running.

    Raises:
        UserError: when there is no such job, or it doesn't end.
    """
    details = client.get_job_info(known_job(client, job, "--stop"))
    if details.status.is_terminal():
        return details, False
    client.stop_job(job)
    deadline = time.monotonic() + _STOP_SECONDS + 30
    while time.monotonic() < deadline:
        details = client.get_job_info(job)
        if details.status.is_terminal():
            return details, True
        time.sleep(_POLL_SECONDS)
    raise UserError(f"--stop {job}: was told to stop, but still runs; look again with: glr-dist jobs")
