"""A run begins in this process; workers come when that pays, and change no bit, and the run never waits for them."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from small_runs import outcome, train_small

from glr_dist.engine import handover
from glr_dist.engine.callbacks import Progress, TrainResult
from glr_dist.engine.handover import Handover, shared_seconds, steps_left

NINE = {"batch": 36, "units.rows": 4, "engine.workers": -1}


def made(**changes: Any) -> Handover:
    def never(size: int) -> Any:
        raise AssertionError("started")

    return Handover(never, **({"blocks": 8, "threads": 1, "nbytes": 10**6} | changes))


def test_a_step_of_eight_blocks_among_three_takes_three_eighths_and_what_sharing_costs() -> None:
    assert shared_seconds(0.8, blocks=8, hands=3, nbytes=10**6) == pytest.approx(0.3 + 0.001 + 0.002)
    assert shared_seconds(0.8, blocks=2, hands=3, nbytes=0) == pytest.approx(0.4 + 0.001)
    assert shared_seconds(0.8, blocks=1, hands=3, nbytes=10**6) == 0.8  # nothing to share


@pytest.mark.parametrize(
    ("seconds", "steps", "changes"),
    [(0.1, 100, {}), (0.002, 10_000, {"nbytes": 10**7}), (1.0, 10**6, {"blocks": 1}), (1.0, 10**6, {"threads": 64})],
)
def test_workers_that_would_not_pay_are_not_started(
    seconds: float, steps: int, changes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of 10 seconds, steps of 2 ms, a step of one block, and more threads than there are cores."""
    monkeypatch.setattr(handover, "idle_cores", lambda: 4)
    coming = made(**changes)
    coming.consider(seconds, steps)
    assert not coming.begun


def test_cores_that_others_use_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "cores", lambda: 4)
    for load, idle in ((0.1, 4), (1.0, 4), (3.2, 2), (9.0, 1)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert handover.idle_cores() == idle


def test_the_time_that_is_left_ends_the_steps_that_are() -> None:
    assert steps_left(10, 30, 1.0, None) == 20
    assert steps_left(10, 30, 1.0, time.monotonic() + 5) == pytest.approx(5, abs=0.5)
    assert steps_left(10, 30, 1.0, time.monotonic() - 5) == 0


def test_a_short_run_of_the_default_starts_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "connected", lambda: pytest.fail("started"))
    monkeypatch.setattr("glr_dist.engine.assembly.elsewhere_named", lambda: False)
    before = threading.active_count()
    result = train_small(tmp_path / "run", NINE)
    assert (result.workers, threading.active_count()) == (0, before)


def test_workers_that_cannot_come_are_told_of_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise OSError("no Ray here\nat all")

    said: list[str] = []
    monkeypatch.setattr(handover, "connected", broken)
    monkeypatch.setattr("glr_dist.engine.assembly.elsewhere_named", lambda: False)
    monkeypatch.setattr(handover, "_MUST_SAVE_SECONDS", -1e9)
    monkeypatch.setattr(handover, "idle_cores", lambda: 2)
    keys = NINE | {"steps": 40}

    def slowly(progress: Progress) -> None:
        time.sleep(0.01)

    train_small(tmp_path / "run", keys, say=said.append, show=slowly)
    assert said == ["all work stays in this process: no Ray here"]
    train_small(tmp_path / "alone", keys | {"engine.workers": 0})
    assert outcome(tmp_path / "run") == outcome(tmp_path / "alone")


def trained_while_workers_come(folder: Path, steps: int) -> tuple[TrainResult, list[int]]:
    """A run that waits for workers after some steps; and the steps from which on they took part."""
    came: list[int] = []

    def wait(progress: Progress) -> None:
        if progress.workers and not came:
            came.append(progress.step)
        if not came and progress.step > 20:
            time.sleep(0.2)

    return train_small(folder, NINE | {"steps": steps}, show=wait), came


def test_work_is_handed_over_in_mid_run_without_a_changed_bit(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To workers of the tests' Ray; all three ways of doing a step are gone."""
    monkeypatch.setattr("glr_dist.engine.assembly.elsewhere_named", lambda: False)
    monkeypatch.setattr(handover, "connected", nullcontext)
    monkeypatch.setattr(handover, "_MUST_SAVE_SECONDS", -1e9)
    monkeypatch.setattr(handover, "idle_cores", lambda: 3)
    result, came = trained_while_workers_come(tmp_path / "run", 200)
    assert came and came[0] < 170  # the three ways take 21 steps
    assert result.bytes_up > 0
    train_small(tmp_path / "alone", NINE | {"steps": 200, "engine.workers": 0})
    assert outcome(tmp_path / "run") == outcome(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_ray_is_started_beside_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_MUST_SAVE_SECONDS", -1e9)
    monkeypatch.setattr(handover, "idle_cores", lambda: 3)
    _, came = trained_while_workers_come(tmp_path / "run", 300)
    assert came and came[0] < 280
    train_small(tmp_path / "alone", NINE | {"steps": 300, "engine.workers": 0})
    assert outcome(tmp_path / "run") == outcome(tmp_path / "alone")
