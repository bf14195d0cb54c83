"""A run on three raylets; a fourth joins in mid-run and is used, one is killed: the same bits as one process alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from several_hosts import GIVEN_STEPS, environment
from small_runs import outcome, train_small

PROGRAM = Path(__file__).parents[1] / "support" / "several_hosts.py"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_that_come_and_go_change_nothing(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    command = [sys.executable, str(PROGRAM), str(tmp_path), "grow-and-shrink"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, env=environment())
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    record_property("figures", json.dumps(report))
    assert report["nodes_at_first"] == 3
    assert report["steps_until_used"] <= 5  # after its worker has started
    assert report["workers_lost"] >= 1
    train_small(tmp_path / "undisturbed", {"steps": GIVEN_STEPS, "checkpoint_every": 100})
    assert outcome(tmp_path / "run") == outcome(tmp_path / "undisturbed")
