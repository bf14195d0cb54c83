"""What a tuning tries: which keys fit a config, and points that fill the ranges evenly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_runs import small_config, small_task

from glr_dist.errors import UserError
from glr_dist.tuning.space import Space, reversed_digits, with_values

LR, SCALE, COPIES, DECAY = "optimizer.lr", "noise.scale", "estimator.copies", "optimizer.weight_decay"
FLIPS = {"estimator.scheme": "flips"}


def space(keys: dict[str, Any] | None = None, tries: Any = None) -> Space:
    return Space.of(small_config(keys), small_task(keys).sites, tries)


@pytest.mark.parametrize(
    ("keys", "axes"),
    [
        ({}, {LR, SCALE, COPIES}),
        (FLIPS, {LR, SCALE, "estimator.base_draws"}),  # 12 units: turning each costs little
        (FLIPS | {"model.hidden": [80]}, {LR, SCALE, "estimator.base_draws", "estimator.flips"}),
        ({"method": "es"}, {LR, SCALE, COPIES}),
        ({"method": "bp", "model.activation": "relu"}, {LR}),
    ],
)
def test_tried_is_what_the_method_looks_at(keys: dict[str, Any], axes: set[str]) -> None:
    made = space(keys)
    assert set(made.axes) == axes
    for number in range(20):
        small_task(keys | made.values(number))  # every one of them can be trained


def test_points_hang_on_seed_and_number_alone_and_fill_the_ranges() -> None:
    one, again = space(), space()
    points = [one.values(number) for number in range(257)]
    assert points[0] == {}
    assert points == [again.values(number) for number in range(257)]
    assert points[1] != space({"seed": 1}).values(1)
    shares = np.log([point[SCALE] / 0.1 for point in points[1:]]) / np.log(3.0 / 0.1)
    counts, _ = np.histogram(shares, bins=8, range=(0, 1))
    assert counts.min() >= 30  # of 32 expected; of independent draws the fewest would be about 24
    assert {point[COPIES] for point in points[1:]} == {8, 16, 32, 64, 128}


def test_digits_in_reverse_by_hand() -> None:
    assert [reversed_digits(number, 2) for number in range(7)] == [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8]
    assert reversed_digits(5, 3) == pytest.approx(2 / 3 + 1 / 9)


def test_what_is_tried_can_be_said() -> None:
    made = space(tries={DECAY: None, SCALE: (1.0, 2.0), COPIES: ["4", "6"], "batch": (16.0, 64.0)})
    points = [made.values(number) for number in range(1, 40)]
    assert all(1.0 <= point[SCALE] <= 2.0 and 0.01 <= point[DECAY] <= 1.0 for point in points)
    assert {point[COPIES] for point in points} == {4, 6}
    assert all(type(point["batch"]) is int and 16 <= point["batch"] <= 64 for point in points)
    assert with_values(small_config(), points[0]).estimator.copies == points[0][COPIES]


@pytest.mark.parametrize(
    ("tries", "message"),
    [
        ({"steps": None}, "--try steps: can't be tried; choose from batch and the keys of noise, estimator"),
        ({"noise.scal": None}, "--try noise.scal: can't be tried"),
        ({"schedule.gamma": None}, "--try schedule.gamma: has no usual values; write it as schedule.gamma=LOW:HIGH"),
        ({SCALE: (2.0, 1.0)}, r"--try noise.scale=2.0:1.0: write the lower one first"),
        ({COPIES: ["8", "7"]}, "estimator.copies = 7: antithetic pairs need an even number"),
        ({COPIES: ["many"]}, "estimator.copies = 'many': must be a whole number"),
        ({"estimator.base_draws": ["1", "2"]}, "estimator.base_draws = 2: changes nothing under"),
    ],
)
def test_what_cannot_be_tried_is_refused(tries: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        space(tries=tries)
