"""Jobs on a real head with token authentication: trained, followed, listed, stopped, refused."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result
from local_head import local_head, start_cli

from glr_dist.cli import main
from glr_dist.errors import UserError
from glr_dist.launch.jobs import exit_code, follow_job
from glr_dist.store.checkpoint import checkpoint_steps
from glr_dist.store.storage import Storage

pytestmark = pytest.mark.ray
NET = """
from math import prod
from torch import nn

def build(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), classes))
"""
OWN = """
steps = 4
batch = 32
model = {kind = "factory", factory = "net:build"}
engine = {workers = 1}
noise = {table_size = 65536}
"""


class Ended(NamedTuple):
    """A command line that has run to its end."""

    folder: Path
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a head's dashboard."""
    folder = tmp_path_factory.mktemp("head")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        with local_head(folder / "head.log") as url:
            yield url


@pytest.fixture(scope="module")
def ended(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Two jobs, side by side: one that trains what the user wrote, one that goes on with a run that is none."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "net.py").write_text(NET)
    (folder / "own.toml").write_text(OWN)
    send = ("submit", "--address", cluster, "--", "train")
    with (
        start_cli(*send, "own.toml", "--run-dir", "run", "--json", cwd=folder) as good,
        start_cli(*send, "--resume", "none", cwd=folder) as bad,
    ):
        outputs = {"good": good.communicate(timeout=110), "bad": bad.communicate(timeout=110)}
    codes = {"good": good.returncode, "bad": bad.returncode}
    return {name: Ended(folder, codes[name], *outputs[name]) for name in outputs}


def test_a_job_trains_what_the_user_wrote(ended: dict[str, Ended]) -> None:
    """A TOML file and a module of the current folder travel; the log comes home; the last line is the run's JSON."""
    job = ended["good"]
    assert job.code == 0, job.out + job.err
    assert "step 4/4" in job.out
    result = json.loads(job.out.splitlines()[-1])
    assert (result["steps"], result["workers"], result["run"]) == (4, 1, str(job.folder / "run"))
    assert checkpoint_steps(Storage.at(job.folder / "run")) == [4]
    assert "succeeded" in job.err


def test_a_failed_jobs_exit_code_is_its_own(ended: dict[str, Ended]) -> None:
    job = ended["bad"]
    assert job.code == 2, job.out + job.err
    assert f"Error: {job.folder / 'none'} is not a run: there is no such folder" in job.out
    assert "Traceback" not in job.out + job.err


def test_no_job_shows_the_token(ended: dict[str, Ended]) -> None:
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert all(token not in job.out + job.err for job in ended.values())


def _jobs(cluster: str, *arguments: str) -> Result:
    """``glr-dist jobs``, in this process."""
    return CliRunner().invoke(main, ["jobs", "--address", cluster, *arguments])


def test_an_interrupted_look_leaves_the_job_and_a_stopped_job_leaves_a_checkpoint(cluster: str, tmp_path: Path) -> None:
    long = ["train", "--steps", "1000000", "--workers", "1", "--run-dir", "long", "--set", "noise.table_size=262144"]
    with start_cli("submit", "--address", cluster, "--", *long, cwd=tmp_path) as watcher:
        assert watcher.stderr and watcher.stdout
        job = watcher.stderr.readline().split()[1].rstrip(":")
        assert any(re.search(r"step \d+/", line) for line in iter(watcher.stdout.readline, ""))  # long before its end
        watcher.send_signal(signal.SIGINT)
        _, said = watcher.communicate(timeout=60)
    assert watcher.returncode == 130
    assert f"job {job} runs on; stop it with: glr-dist jobs --address {cluster} --stop {job}" in said
    [line] = [line for line in _jobs(cluster).stdout.splitlines() if line.startswith(job)]
    assert "RUNNING" in line and "--steps 1000000" in line
    stopped = _jobs(cluster, "--stop", job)
    assert (stopped.exit_code, stopped.stdout) == (0, f"job {job}: stopped\n")
    assert checkpoint_steps(Storage.at(tmp_path / "long"))
    assert _jobs(cluster, "--stop", job).stdout == f"job {job} was over already: stopped\n"


def test_stopping_an_unknown_job_names_the_nearest(cluster: str, ended: dict[str, Ended]) -> None:
    job = ended["good"].err.split()[1].rstrip(":")
    unknown = _jobs(cluster, "--stop", f"{job}x")
    assert unknown.exit_code == 2
    assert unknown.stderr == f"Error: --stop {job}x: no such job; did you mean {job!r}?\n"


def test_a_jobs_log_is_printed_again_and_its_exit_code_passed_on(cluster: str, ended: dict[str, Ended]) -> None:
    good, bad = (ended[name].err.split()[1].rstrip(":") for name in ("good", "bad"))
    assert _jobs(cluster, "--logs", good).stdout == ended["good"].out
    with start_cli("jobs", "--address", cluster, "--follow", bad, cwd=ended["bad"].folder) as following:
        out, err = following.communicate(timeout=60)
    assert (following.returncode, out) == (2, ended["bad"].out), err
    assert f"job {bad}: failed" in err
    assert _jobs(cluster, "--logs", f"{good}x").exit_code == 2
    assert "--logs: can't be given with --stop" in _jobs(cluster, "--stop", good, "--logs", good).stderr


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("wrong", "refuses the token in {file}; put the cluster's own there"),
        ("missing", "wants a token, and {file} holds none; put it there"),
        ("mode unset", "wants a token, and none is sent unless RAY_AUTH_MODE=token is set"),
    ],
)
def test_a_refused_token_is_one_line(case: str, line: str, cluster: str, tmp_path: Path) -> None:
    """In processes of their own: Ray reads the mode when it is imported."""
    file = tmp_path / "token"
    if case == "wrong":
        file.write_text(secrets.token_hex(32))
    env: dict[str, str | None] = {"RAY_AUTH_TOKEN_PATH": str(file)}
    if case == "mode unset":
        env = {"RAY_AUTH_MODE": None}
    with start_cli("submit", "--address", cluster, "--", "presets", cwd=tmp_path, env=env) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith(f"Error: {cluster}: {line.format(file=file)}")
    assert len(err.splitlines()) == 1
    assert out == ""


@pytest.mark.parametrize(
    ("status", "driver", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", 130, 130),
        ("FAILED", -9, 137),  # killed, as a shell tells it
        ("FAILED", None, 1),  # never ran
        ("STOPPED", None, 130),
        ("STOPPED", 0, 130),
    ],
)
def test_exit_codes(status: str, driver: int | None, expected: int) -> None:
    details: Any = SimpleNamespace(status=status, driver_exit_code=driver)
    assert exit_code(details) == expected


class Client:
    """A cluster as the follower of a job sees it: in every connection it prints some of the log and breaks, or doesn't.

    Args:
        connections: pieces of the log, then whether the connection ends as it should.
        over: whether the job is over, each time that is asked; None: no answer.
    """

    def __init__(self, connections: Iterable[tuple[list[str], bool]], over: Iterable[bool | None]) -> None:
        self._connections, self._over = iter(connections), iter(over)

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        pieces, whole = next(self._connections)
        for piece in pieces:
            yield piece
        if not whole:
            raise RuntimeError("closed")

    def get_job_info(self, job: str) -> Any:
        over = next(self._over)
        if over is None:
            raise ConnectionRefusedError
        return SimpleNamespace(status=SimpleNamespace(is_terminal=lambda: over))


def follow(connections: Iterable[tuple[list[str], bool]], over: Iterable[bool | None]) -> str:
    """What is printed of a job."""
    written: list[str] = []
    client: Any = Client(connections, over)
    follow_job(client, "x", written.append, tries=3, pause=0.0)
    return "".join(written)


def test_a_lost_connection_repeats_nothing() -> None:
    """Every connection brings the log from its beginning; the last lines come even when the job is over by then."""
    log = [(["one ", "two "], False), (["one two thr", "ee "], False), (["one two three four"], True)]
    assert follow(log, [False, True, True]) == "one two three four"


def test_reconnections_are_counted_from_the_last_answer() -> None:
    """A job that runs for days loses its connection more often than a cluster may stay silent."""
    silent, answers = ([], False), (["log"], False)
    connections = [silent, silent, answers] * 20 + [(["log"], True)]
    assert follow(connections, [None, None, False] * 20 + [True]) == "log"


def test_time_is_bounded_when_the_head_is_gone() -> None:
    """A client that only fails is given up, and says that the job may still run."""
    with pytest.raises(UserError, match="no longer answers; job x may still run"):
        follow(repeat(([], False)), repeat(None))


def test_a_job_that_is_over_is_told_though_its_log_is_lost() -> None:
    assert follow(repeat((["on"], False)), repeat(True)) == "on"
