"""Jobs on a real head with token authentication: trained, followed, listed, stopped, refused."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from local_head import cli, local_head, start_cli

from glr_dist.launch.jobs import exit_code
from glr_dist.store import Storage, checkpoint_steps

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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a head's dashboard."""
    folder = tmp_path_factory.mktemp("head")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        with local_head(folder / "head.log") as url:
            yield url


def _token() -> str:
    return Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()


def test_a_job_trains_what_the_user_wrote(cluster: str, tmp_path: Path) -> None:
    """A TOML file and a module of the current folder travel; the log comes home; the last line is the run's JSON."""
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "own.toml").write_text(OWN)
    done = cli("submit", "--address", cluster, "--", "train", "own.toml", "--run-dir", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 4/4" in done.stdout
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["steps"], result["workers"], result["run"]) == (4, 1, str(tmp_path / "run"))
    assert checkpoint_steps(Storage.at(tmp_path / "run")) == [4]
    assert "succeeded" in done.stderr
    assert _token() not in done.stdout + done.stderr


def test_a_failed_jobs_exit_code_is_its_own(cluster: str, tmp_path: Path) -> None:
    done = cli("submit", "--address", cluster, "--", "train", "digits-treshold", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Error: preset 'digits-treshold': unknown; did you mean 'digits-threshold'?" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_an_interrupted_look_leaves_the_job_and_a_stopped_job_leaves_a_checkpoint(cluster: str, tmp_path: Path) -> None:
    long = ["train", "--steps", "1000000", "--workers", "1", "--run-dir", "long", "--set", "noise.table_size=65536"]
    watcher = start_cli("submit", "--address", cluster, "--", *long, cwd=tmp_path)
    assert watcher.stderr and watcher.stdout
    job = watcher.stderr.readline().split()[1].rstrip(":")
    assert any("step 1/" in line for line in iter(watcher.stdout.readline, ""))  # long before its end
    watcher.send_signal(signal.SIGINT)
    _, said = watcher.communicate(timeout=30)
    assert watcher.returncode == 130
    assert f"job {job} runs on; stop it with: glr-dist jobs --address {cluster} --stop {job}" in said
    listed = cli("jobs", "--address", cluster, cwd=tmp_path)
    [line] = [line for line in listed.stdout.splitlines() if line.startswith(job)]
    assert "RUNNING" in line and "--steps 1000000" in line
    stopped = cli("jobs", "--address", cluster, "--stop", job, cwd=tmp_path)
    assert (stopped.returncode, stopped.stdout) == (0, f"job {job}: stopped\n")
    assert checkpoint_steps(Storage.at(tmp_path / "long"))
    again = cli("jobs", "--address", cluster, "--stop", job, cwd=tmp_path)
    assert again.stdout == f"job {job} was over already: stopped\n"
    unknown = cli("jobs", "--address", cluster, "--stop", f"{job}x", cwd=tmp_path)
    assert unknown.returncode == 2
    assert unknown.stderr == f"Error: --stop {job}x: no such job; did you mean {job!r}?\n"


def _wrong(folder: Path) -> Path:
    file = folder / "token"
    file.write_text(secrets.token_hex(32))
    return file


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("wrong", "refuses the token in {file}; put the cluster's own there"),
        ("missing", "wants a token, and {file} holds none; put it there"),
        ("mode unset", "wants a token, and none is sent unless RAY_AUTH_MODE=token is set"),
    ],
)
def test_a_refused_token_is_one_line(case: str, line: str, cluster: str, tmp_path: Path) -> None:
    file = _wrong(tmp_path) if case == "wrong" else tmp_path / "none"
    env: dict[str, str | None] = {"RAY_AUTH_TOKEN_PATH": str(file)}
    if case == "mode unset":
        env = {"RAY_AUTH_MODE": None}
    done = cli("submit", "--address", cluster, "--", "train", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {cluster}: {line.format(file=file)}")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


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


def test_time_is_bounded_when_the_head_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that only fails is given up, and says that the job may still run."""
    from glr_dist.errors import UserError
    from glr_dist.launch import jobs

    class Gone:
        async def tail_job_logs(self, job: str) -> Any:
            raise ConnectionRefusedError
            yield ""

    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.01)
    client: Any = Gone()
    started = time.monotonic()
    with pytest.raises(UserError, match="no longer answers; job x may still run"):
        jobs.follow_job(client, "x", print)
    assert time.monotonic() - started < 5


def test_a_lost_connection_repeats_nothing() -> None:
    """Every connection brings the log from its beginning."""
    from glr_dist.launch import jobs

    class Shaky:
        pieces = iter([["one ", "two "], ["one two thr", "ee "], ["one two three four"]])

        async def tail_job_logs(self, job: str) -> Any:
            mine = next(self.pieces)
            for piece in mine:
                yield piece
            if "four" not in mine[-1]:
                raise RuntimeError("closed")

        def get_job_info(self, job: str) -> Any:
            return SimpleNamespace(status=SimpleNamespace(is_terminal=lambda: True))

    written: list[str] = []
    client: Any = Shaky()
    jobs.follow_job(client, "x", written.append)
    assert "".join(written) == "one two three four"
