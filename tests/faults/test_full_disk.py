"""A disk that fills up during a run: one clear line, the newest checkpoint whole, and all goes on once there is room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import outcome, small_toml

from glr_dist.config import load_config
from glr_dist.engine.session import train
from glr_dist.store.checkpoint import load_checkpoint


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glr_dist.cli", "train", *arguments, "--workers", "0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
@pytest.mark.parametrize("checkpoint_every", [2, 0])
def test_a_full_disk_is_told_and_survived(checkpoint_every: int, small_disk: Path, tmp_path: Path) -> None:
    """Filled by checkpoints and journal files; and, without checkpoints on the way, by the journal and the metrics."""
    keys = {"steps": 100, "checkpoint_every": checkpoint_every, "validate_every": 0}
    config = small_toml(tmp_path / "small.toml", **keys)
    run = small_disk / "run"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_500_000 if checkpoint_every else 2_050_000))
    full = command_line(str(config), "--run-dir", str(run))
    assert full.returncode == 2, full.stderr
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("Error")]
    assert f"no space left to write {run}/" in line
    assert "Traceback" not in full.stderr
    if checkpoint_every:
        assert 0 < load_checkpoint(run).step < 100
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    resumed = command_line("--resume", str(run))
    assert resumed.returncode == 0, resumed.stderr
    train(config=load_config(str(config)), run_dir=tmp_path / "whole", say=lambda line: None)
    assert outcome(run) == outcome(tmp_path / "whole")
