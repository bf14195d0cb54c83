"""A worker whose answers are wrong, though the loss is sound, is replaced; a loss that is wrong stops the run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import afflict
from small_runs import STEPS, crews_watched, outcome, train_small

from glr_dist.core.losses import cross_entropy
from glr_dist.engine.callbacks import Progress
from glr_dist.errors import UserError

# what a fault may look like else is listed where answers are checked, in tests/engine/test_plan.py
AFFLICTIONS: list[Callable[[Any], Any]] = [
    lambda found: replace(found, losses=[found.losses[0] * np.float32("nan"), *found.losses[1:]]),
    lambda found: None,
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train_small(folder)
    return outcome(folder)


def test_workers_that_answer_wrongly_are_replaced_each_time(
    undisturbed: dict[str, Any], tmp_path: Path, ray_session: None
) -> None:
    """One evaluator after the other, and a reconstructor."""
    left = list(AFFLICTIONS)

    def harm(progress: Progress) -> None:
        pool = crews[0].evaluators
        if left and pool.counts.faults == len(AFFLICTIONS) - len(left):  # the former one has been found out
            afflict(next(member for member in pool.members() if member.ready), left.pop())
        if progress.step == 4:
            afflict(crews[0].reconstructors.members()[0], lambda found: replace(found, values=found.values[1:]))

    with crews_watched() as crews:
        result = train_small(tmp_path / "run", {"engine.workers": 2, "engine.reconstructors": 1}, show=harm)
    assert left == []
    assert [pool.counts.faults for pool in crews[0].pools] == [len(AFFLICTIONS), 1]
    assert result.workers_lost == len(AFFLICTIONS) + 1
    assert result.bytes_up == 4 * (2 * 8 * 32) * STEPS  # what was discarded is not counted
    assert outcome(tmp_path / "run") == undisturbed


def test_a_loss_that_is_wrong_itself_stops_the_run_and_costs_no_worker(tmp_path: Path, ray_session: None) -> None:
    driver = os.getpid()

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        tried = os.getpid() == driver  # the trial before the first step, where it is still sound
        return cross_entropy(logits, labels) * (1.0 if tried else float("nan"))

    with crews_watched() as crews, pytest.raises(UserError, match=r"loss: step 0, site 0, unit \d+ returned nan"):
        train_small(tmp_path / "run", {"engine.workers": 1, "engine.reconstructors": 1}, loss=loss)
    assert [pool.counts.faults + pool.counts.deaths for pool in crews[0].pools] == [0, 0]
