"""The driver killed at any moment, then resumed, again and again: nothing lost but a few steps, the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import pytest
from small_runs import outcome, small_toml

from glr_dist.config import load_config
from glr_dist.engine.session import train
from glr_dist.store.checkpoint import checkpoint_steps, load_checkpoint
from glr_dist.store.storage import Storage

KILLS = 6
MOST_KILLS = 12  # a kill may come after the file it was meant for is in its place
MARK = "GLR_DIST_TEST_OF_KILLED_DRIVER"


def start(*arguments: str) -> subprocess.Popen[str]:
    """``glr-dist train`` in a process of its own; it and all that it starts carry a mark."""
    command = [sys.executable, "-m", "glr_dist.cli", "train", *arguments, "--json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | {MARK: "1"}, stdout=pipe, stderr=pipe, text=True)


def marked() -> list[int]:
    """Live processes that a killed driver has left."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"{MARK}=1".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def wait_for(what: Callable[[], bool], driver: subprocess.Popen[str], seconds: float = 120.0) -> None:
    """Look again and again, as often as can be."""
    deadline = time.monotonic() + seconds
    while not what():
        assert driver.poll() is None, f"the driver ended by itself: {driver.communicate()}"
        assert time.monotonic() < deadline, "nothing happened"


def half_written(folder: Path) -> bool:
    """Whether something is being written there right now."""
    try:
        return any(path.name.startswith(".tmp-") for path in folder.iterdir())
    except FileNotFoundError:
        return False


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_driver_killed_six_times_ends_where_the_undisturbed_one_does(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Between the steps, while it writes a checkpoint, while it writes a journal file; once with actors of its own."""
    config = small_toml(tmp_path / "small.toml", steps=1000, checkpoint_every=2)
    run, rng = tmp_path / "run", random.Random(0)
    checkpoints, journal, metrics = run / "checkpoints", run / "journal", run / "metrics.jsonl"
    torn = {"checkpoint": 0, "journal": 0, "anywhere": 0}
    kills = 0
    for moment in cycle(torn):
        if kills >= KILLS and torn["checkpoint"] and torn["journal"]:
            break
        assert kills < MOST_KILLS, torn
        workers = ("--workers", "1" if kills == 1 else "0")
        driver = start(*(("--resume", str(run)) if kills else (str(config), "--run-dir", str(run))), *workers)
        try:
            size = metrics.stat().st_size if kills else 0
            wait_for(lambda size=size: metrics.exists() and metrics.stat().st_size > size + 300, driver)  # type: ignore[misc]
            time.sleep(rng.uniform(0.0, 0.2))
            if moment != "anywhere":
                folder = {"checkpoint": checkpoints, "journal": journal}[moment]
                wait_for(lambda folder=folder: half_written(folder), driver)  # type: ignore[misc]
        finally:
            driver.kill()
            driver.communicate()
        assert driver.returncode == -signal.SIGKILL
        kills += 1
        torn["checkpoint"] += half_written(checkpoints)
        torn["journal"] += half_written(journal)
        newest = checkpoint_steps(Storage.at(run))[-1]
        assert load_checkpoint(run).step == newest  # whole, whatever the moment was
    last = start("--resume", str(run), "--workers", "0")
    out, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    whole = train(config=load_config(str(config)), run_dir=tmp_path / "whole", say=lambda line: None)
    assert json.loads(out.splitlines()[-1])["params_sha256"] == whole.params_sha256
    assert outcome(run) == outcome(tmp_path / "whole")
    wait_until_gone()
    record_property("figures", json.dumps({"driver_kills": kills, "files_half_written": torn, "bit_identical": True}))


def wait_until_gone(seconds: float = 180.0) -> None:
    """A killed driver's own Ray goes with it; Ray's agents take a minute, in which they look for the others."""
    deadline = time.monotonic() + seconds
    while left := marked():
        assert time.monotonic() < deadline, f"processes {left} are still there"
        time.sleep(1.0)
