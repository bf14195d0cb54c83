"""cluster/slurm.sh with stand-ins for Slurm's commands and for Ray, which run what they are given on this machine."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from recipes import CLUSTER

STAND_INS = {
    "scontrol": 'echo node1; echo node2; [ "$1 $2 $3" = "show hostnames node[1-2]" ]',
    "hostname": "echo 10.0.0.7 fd00::7",
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    "python3": f'exec "{sys.executable}" "$@"',
    "ray": """
[ "$RAY_AUTH_MODE" = token ] && cp -p "$RAY_AUTH_TOKEN_PATH" token_seen && echo "$@" >ray_arguments
[ -z "${RAY_FAILS:-}" ] || exit 0
while [ "$1" != -- ]; do shift; done
shift; exec "$@" """,
    "train-or-resume": 'echo "$RAY_ADDRESS" "$@" >train_arguments; exit "${TRAIN_STATUS:-0}"',
}


class Job:
    """A project folder on the shared file system, and one job of 2 nodes with 8 CPUs each."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "a project"
        self.home = root / "home"
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        self.home.mkdir()
        for name, text in STAND_INS.items():
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        shutil.copy(CLUSTER / "slurm.sh", root / "slurm_script")  # Slurm runs a copy from its spool

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        slurm = {
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_JOB_ID": "42",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "8",
        }
        done = subprocess.run(
            ["bash", str(self.folder.parent / "slurm_script"), *arguments],
            cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **slurm, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stdout

    def read(self, name: str) -> str:
        return (self.folder / name).read_text().strip()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def test_trains_on_the_cluster_with_all_cpus_but_the_drivers(job: Job) -> None:
    assert job.run("runs/x", "mnist-conv", "--seconds", "3300") == (0, "")
    assert job.read("train_arguments") == "10.0.0.7:6379 runs/x mnist-conv --workers 15 --seconds 3300"
    start, _, _ = job.read("ray_arguments").partition(" -- ")
    assert start == ("symmetric-run --address 10.0.0.7:6379 --min-nodes 2 --num-cpus=8 --dashboard-host=127.0.0.1")


def test_has_a_run_and_a_preset_of_its_own(job: Job) -> None:
    assert job.run()[0] == 0
    assert job.read("train_arguments") == "10.0.0.7:6379 runs/mnist mnist-threshold --workers 15"


def test_token_is_fresh_private_unseen_and_removed(job: Job) -> None:
    tokens = set()
    for _ in range(2):
        status, output = job.run()
        assert status == 0
        token = job.read("token_seen")
        assert len(token) == 64
        assert stat.S_IMODE((job.folder / "token_seen").stat().st_mode) == 0o600
        assert token not in output + job.read("ray_arguments") + job.read("train_arguments")
        assert list(job.home.iterdir()) == []
        tokens.add(token)
    assert len(tokens) == 2


@pytest.mark.parametrize("status", [2, 130])
def test_exit_status_is_the_trainings(job: Job, status: int) -> None:
    assert job.run(TRAIN_STATUS=str(status)) == (status, "")


def test_ray_that_does_not_start_is_no_success(job: Job) -> None:
    status, output = job.run(RAY_FAILS="1")
    assert status == 1
    assert output == "Error: Ray did not start on node1; its reason is above\n"
