"""cluster/train-or-resume, with a stand-in for glr-dist that writes down its arguments, and once with the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from recipes import CLUSTER


def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it in `folder`, with `folder`/bin before this environment's programs."""
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [str(CLUSTER / "train-or-resume"), *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a stand-in for glr-dist."""
    stand_in = tmp_path / "bin" / "glr-dist"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\nprintf "<%s>" "$@"\nexit "${STATUS:-0}"\n')
    stand_in.chmod(0o755)
    return tmp_path


def test_starts_a_run_where_there_is_none(folder: Path) -> None:
    done = call(folder, "my runs/a", "mnist-threshold", "--workers", "8", STATUS="2")
    assert done.stdout == "<train><mnist-threshold><--run-dir><my runs/a><--workers><8>"
    assert done.returncode == 2, "its exit status is that of glr-dist"


def test_continues_a_run_with_its_own_config(folder: Path) -> None:
    (folder / "my runs" / "a").mkdir(parents=True)
    (folder / "my runs" / "a" / "config.toml").touch()
    uri = (folder / "my runs" / "a").as_uri()
    done = call(folder, uri, "mnist-threshold", "--workers", "8", STATUS="130")
    assert done.stdout == f"<train><--resume><{uri}><--workers><8>"
    assert done.returncode == 130, "its exit status is that of glr-dist"


def test_starts_nothing_where_it_cannot_look(folder: Path) -> None:
    done = call(folder, "nowhere://runs/a", "mnist-threshold")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "nowhere://runs/a" in done.stderr


def test_too_few_arguments_are_one_line(folder: Path) -> None:
    done = call(folder, "runs/a")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_called_again_after_the_time_limit_it_goes_on(tmp_path: Path) -> None:
    """With the very options of the first time, also those that no resumed run may change."""
    (tmp_path / "small.toml").write_text(
        'steps = 12\nbatch = 16\n[data]\nname = "digits"\n[estimator]\ncopies = 4\n[model]\nhidden = [8]\n'
    )
    options = ("--seed", "3", "--gpus-per-worker", "0")
    steps = []
    for limit in [("--seconds", "0.001"), ()]:
        done = call(tmp_path, "runs/a", "small.toml", "--workers", "0", *options, "--json", *limit)
        assert done.returncode == 0, done.stderr
        steps.append(json.loads(done.stdout.splitlines()[-1])["steps"])
    assert 0 < steps[0] < steps[1] == 12
