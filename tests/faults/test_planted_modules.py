"""Modules that lie in the current folder, and that nobody named, are run by no command and by no worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import small_toml

PLANTED = [
    "aiohttp",
    "cupy",
    "json",
    "numpy",
    "pandas",
    "psutil",
    "pyarrow",
    "random",
    "ray",
    "rich",
    "safetensors",
    "secrets",
]
PLANTED += ["setproctitle", "socket", "tensorboard", "tomli_w", "torch", "typing", "uvloop", "yaml"]
MODEL = """
import torch
from torch import nn
import beside
from glr_dist.core.activations import Heaviside

def build(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, beside.HIDDEN), Own(), nn.Linear(beside.HIDDEN, classes))

class Own(Heaviside):
    pass
"""


def plant(folder: Path) -> Path:
    """A folder full of modules that leave a mark; the mark."""
    mark = folder / "RUN"
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write('{name}\\n')\nraise SystemExit(9)\n")
    return mark


def glr_dist(*arguments: str, folder: Path, launcher: Path) -> subprocess.CompletedProcess[str]:
    """The installed command: a script that lies elsewhere."""
    launcher.write_text("from glr_dist.cli import main\nmain()\n")
    project = str(Path(__file__).resolve().parents[2])
    env = os.environ | {"PYTHONPATH": project}
    command = [sys.executable, str(launcher), *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.ray)])
def test_only_the_module_that_is_named_is_found_here(workers: int, tmp_path: Path) -> None:
    here, launcher = tmp_path / "here", tmp_path / "launcher.py"
    here.mkdir()
    mark = plant(here)
    (here / "mine.py").write_text(MODEL)
    (here / "beside.py").write_text("HIDDEN = 6\n")
    factory = {
        "model.kind": "factory",
        "model.factory": "mine:build",
        "engine.workers": workers,
        "steps": 3,
        "model.hidden": [50],
    }
    toml = small_toml(tmp_path / "small.toml", **factory)
    for arguments in (
        ["train", str(toml), "--run-dir", "run"],
        ["evaluate", "run", "--trust-model"],
        ["replay", "run", "--trust-model"],
        ["verify", "run", "--trust-model"],
        ["train", "--resume", "run", "--trust-model", "--steps", "4"],
    ):
        done = glr_dist(*arguments, folder=here, launcher=launcher)
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
        if workers:
            break  # the others start no workers
    assert not mark.exists(), mark.read_text()


def test_python_m_looks_here_for_nothing(tmp_path: Path) -> None:
    """But for what Python itself imports before the package has a word."""
    mark = plant(tmp_path)
    for name in ("typing", "json", "random", "socket"):
        (tmp_path / f"{name}.py").unlink()
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-m", "glr_dist", "presets"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, "digits-threshold" in done.stdout) == (0, True), done.stderr
    assert not mark.exists(), mark.read_text()
