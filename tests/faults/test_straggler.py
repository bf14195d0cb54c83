"""A run with one worker 20 times slower than the others takes less than 1.3 times what it takes without that worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import afflict
from small_runs import crews_watched, outcome, train_small

from glr_dist.engine.callbacks import Progress

CALL_SECONDS = 0.2  # of a healthy worker: most of it asleep, so that a busy machine distorts little
SLOWER = 20
LAST = 40  # steps; timed from the moment when the straggler becomes one
ATTEMPTS = 3  # a busy machine may delay any one run


def timed(folder: Path, workers: int, straggler: bool) -> float:
    """Seconds of a run all of whose workers sleep in each call; a straggler sleeps longer."""
    times: list[float] = []

    def show(progress: Progress) -> None:
        if progress.step == 1:
            for member in crews[0].evaluators.members():
                slow = straggler and member.number == 0
                afflict(member, lambda losses: losses, delay=CALL_SECONDS * (SLOWER if slow else 1))
        times.append(time.monotonic())

    keys: dict[str, Any] = {"steps": LAST, "engine.workers": workers, "validate_every": 0, "checkpoint_every": 0}
    with crews_watched() as crews:
        result = train_small(folder, keys, show=show)
    assert result.workers_lost == 0
    return times[-1] - times[0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_20_times_slower_costs_less_than_30_percent(
    tmp_path: Path, ray_session: None, record_property: Callable[[str, object], None]
) -> None:
    ratios: list[float] = []
    while not ratios or (min(ratios) >= 1.3 and len(ratios) < ATTEMPTS):
        number = len(ratios)
        without = timed(tmp_path / f"without-{number}", 2, straggler=False)
        ratios.append(timed(tmp_path / f"with-{number}", 3, straggler=True) / without)
        assert outcome(tmp_path / f"with-{number}") == outcome(tmp_path / f"without-{number}")
    record_property("figures", json.dumps({"straggler_times_slower": SLOWER, "time_against_without_it": ratios}))
    assert min(ratios) < 1.3
