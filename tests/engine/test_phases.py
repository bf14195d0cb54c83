"""Where a step's time goes, by hand-made times; and that a run writes it down."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import STEPS, train_small

from glr_dist.engine.phases import Bottleneck, Phases
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage


def test_two_workers_at_the_same_time() -> None:
    """One takes 6 + 2, the other 4 + 1 of 10 seconds: 1.5 are waited for the slower one, 2 are the wire's."""
    phases = Phases.of(10.0, [(6.0, 2.0), (4.0, 1.0)], 0.0, in_turn=False)
    assert vars(phases) == pytest.approx(
        {"evaluation": 5.0, "reconstruction": 1.5, "waiting": 1.5, "wire": 2.0, "optimizer": 0.0}
    )


def test_one_process_in_turn() -> None:
    phases = Phases.of(10.0, [(3.0, 0.0), (4.0, 0.0)], 2.5, in_turn=True).with_optimizer(0.25)
    assert vars(phases) == pytest.approx(
        {"evaluation": 7.0, "reconstruction": 2.5, "waiting": 0.0, "wire": 0.5, "optimizer": 0.25}
    )


def test_a_bottleneck_is_named_where_it_is_not_evaluation() -> None:
    sound, slow, early = Bottleneck(), Bottleneck(), Bottleneck()
    early.see(Phases(wire=1.0))
    for _ in range(50):
        sound.see(Phases(evaluation=2.0, wire=1.0))
        slow.see(Phases(evaluation=1.0, wire=3.0))
    assert (early.name(), sound.name()) == (None, None)
    name, share = slow.name() or ("", 0.0)
    assert (name, share) == ("wire", pytest.approx(0.75))


def test_a_runs_metrics_say_where_the_time_went(tmp_path: Path) -> None:
    result = train_small(tmp_path / "run")
    lines = [line for line in read_metrics(Storage.at(tmp_path / "run")) if "lr" in line]
    assert len(lines) == STEPS
    spent = sum(value for line in lines for key, value in line.items() if key.startswith("ms/"))
    assert 0 < spent <= 1000 * result.seconds
    assert all(line["ms/evaluation"] > 0 < line["ms/reconstruction"] and line["ms/optimizer"] > 0 for line in lines)
    assert {line["ms/waiting"] for line in lines} == {0.0}
