"""Forecasts of steps, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glr_dist.planning.forecast import DRIVER, WORKERS, Link, Work, alone, best, cheaper_from, counts, forecast
from glr_dist.planning.link import local_link

WORK = Work(
    evaluation=0.8,
    reconstruction=0.4,
    driver=0.01,
    blocks=8,
    units=2,
    parameters=1_000_000,
    gradient=1_000_000,
    losses=4_000_000,
)
LINK = Link(bandwidth=1e8, latency=0.001)


def test_four_workers_and_a_driver_that_reconstructs() -> None:
    found = forecast(WORK, LINK, 4, DRIVER)
    assert found.phases == pytest.approx(
        {"evaluation": 0.2, "reconstruction": 0.4, "wire": 0.002 + 4e6 / 1e8 + 4e6 / 1e8, "driver": 0.01}
    )
    assert (found.down, found.up, found.bottleneck) == (4_000_000, 4_000_000, "reconstruction")
    assert found.seconds == pytest.approx(0.692)


def test_four_workers_that_reconstruct_send_a_gradient_each() -> None:
    found = forecast(WORK, LINK, 4, WORKERS)
    assert (found.phases["evaluation"], found.phases["reconstruction"]) == pytest.approx((0.2, 0.1))
    assert (found.down, found.up) == (4_000_000, 4_000_000 + 4_000_000)
    assert found.phases["driver"] == pytest.approx(0.01 + 3e6 / 2e9)


def test_three_workers_have_shares_that_are_no_whole_subtrees() -> None:
    """Blocks 0 and 1, 2 to 4, 5 to 7: one, two and two gradients; the largest share is three eighths."""
    found = forecast(WORK, LINK, 3, WORKERS)
    assert found.up == 4_000_000 + 5 * 1_000_000
    assert found.phases["evaluation"] == pytest.approx(0.3)


def test_more_workers_than_blocks_share_units_or_stand_idle() -> None:
    assert forecast(WORK, LINK, 16, DRIVER).phases["evaluation"] == pytest.approx(0.8 / 16)
    assert forecast(WORK, LINK, 1000, DRIVER).phases["evaluation"] == pytest.approx(0.8 / 16)
    assert forecast(WORK, LINK, 16, WORKERS).phases["evaluation"] == pytest.approx(0.8 / 8)
    assert forecast(WORK, LINK, 1000, WORKERS).down == 8_000_000


def test_the_quicker_placement_is_taken_and_where_they_cross_is_told() -> None:
    assert best(WORK, LINK, 0) == alone(WORK)
    assert best(WORK, LINK, 4).placement == WORKERS
    assert cheaper_from(WORK, LINK, 1024) == 2  # with one, the gradient comes on top
    large = replace(WORK, gradient=10**9)
    assert best(large, LINK, 4).placement == DRIVER
    assert cheaper_from(large, LINK, 1024) is None


def test_numbers_of_workers_are_the_powers_of_two_and_the_most() -> None:
    assert counts(20) == [0, 1, 2, 4, 8, 16, 20]


def test_a_line_on_this_machine_is_measured() -> None:
    link = local_link()
    assert 1e-6 < link.latency < 0.1
    assert 1e7 < link.bandwidth < 1e12
