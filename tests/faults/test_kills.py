"""Workers killed again and again: the same bits, and how long a death is felt."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import Killer
from small_runs import crews_watched, outcome, train_small

from glr_dist.config import Config
from glr_dist.engine.callbacks import Progress

KILLS = 22
EVERY = 3  # steps between kills


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_more_than_twenty_kills_change_nothing(
    tmp_path: Path, ray_session: None, record_property: Callable[[str, object], None]
) -> None:
    """Evaluators and reconstructors in turn, each in the midst of a step; the crew is never more than 2 and 2."""
    keys = {"steps": KILLS * EVERY + 80, "checkpoint_every": 30}
    train_small(tmp_path / "undisturbed", keys)
    plan = {EVERY * (n + 1): ("evaluator", "reconstructor")[n % 2] for n in range(KILLS)}

    def show(progress: Progress) -> None:
        if progress.step in plan:
            killer.kill(plan[progress.step])
        elif progress.step > max(plan) and not killer.all_recovered:
            time.sleep(0.2)  # the dead shall be replaced before the run is over

    with crews_watched() as crews:
        killer = Killer(crews)
        result = train_small(tmp_path / "run", keys | {"engine.workers": 2, "engine.reconstructors": 2}, show=show)
    killer.close()
    report = killer.report() | {"workers_lost": result.workers_lost, "bit_identical": True}
    assert outcome(tmp_path / "run") == outcome(tmp_path / "undisturbed")
    record_property("figures", json.dumps(report))
    assert min(report["kills"].values()) >= 10
    assert sum(report["kills"].values()) >= 20
    assert report["recovered"] >= 20
    assert report["recovered"] <= result.workers_lost <= sum(report["kills"].values())
    diagnosed = keys["steps"] // Config().diagnose_every  # steps evaluated a second time, to be compared with the first
    assert result.bytes_up == 4 * (2 * 8 * 32) * (keys["steps"] + diagnosed)  # each unit's losses counted once
