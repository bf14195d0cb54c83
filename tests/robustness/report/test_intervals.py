from __future__ import annotations

import math

import pytest
from made_findings import first, mask

from glr_dist.robustness.report.intervals import OVER_SAMPLES, OVER_SEEDS, accuracy, over_seeds


def test_one_seed_has_wilsons_interval_over_samples_and_no_spread() -> None:
    """7 of 10 with z = 1.96: (7 + 1.9208 +- 1.96 * sqrt(2.1 + 0.9604)) / 13.8416."""
    found = accuracy([mask("1110111010")])
    assert found is not None
    assert (found["samples"], found["seeds"], found["mean"], found["sd"]) == (10, 1, 0.7, None)
    assert (found["low"], found["high"]) == pytest.approx((0.3968, 0.8922), abs=1e-4)
    assert found["interval"] == OVER_SAMPLES


def test_seeds_have_the_spread_of_their_accuracies() -> None:
    found = accuracy([first(50), first(60), first(70)])
    assert found is not None
    assert found["mean"] == pytest.approx(0.6)
    assert found["sd"] == pytest.approx(0.1)
    half = 4.302653 * 0.1 / math.sqrt(3)  # t of 2 degrees of freedom
    assert (found["low"], found["high"]) == pytest.approx((0.6 - half, 0.6 + half), abs=1e-6)
    assert found["interval"] == OVER_SEEDS


def test_an_interval_over_seeds_stays_among_the_shares() -> None:
    found = over_seeds([0.0, 1.0])
    assert (found["low"], found["high"]) == (0.0, 1.0)


def test_seeds_that_agree_have_an_interval_without_width() -> None:
    found = over_seeds([0.25, 0.25, 0.25])
    assert (found["sd"], found["low"], found["high"]) == (0.0, 0.25, 0.25)


def test_only_the_samples_asked_for_count() -> None:
    found = accuracy([mask("1100"), mask("1000")], among=mask("1110"))
    assert found is not None
    assert found["samples"] == 3
    assert found["mean"] == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_no_sample_has_no_accuracy() -> None:
    assert accuracy([mask("10")], among=mask("00")) is None
    assert accuracy([]) is None


def test_one_value_has_a_mean_alone() -> None:
    assert over_seeds([0.5]) == {"seeds": 1, "mean": 0.5, "sd": None, "low": None, "high": None, "interval": None}
