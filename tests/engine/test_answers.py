"""What passes for an answer: finite float32 [copies, rows] for each unit, or a gradient of the right length."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from small_runs import small_task

from glr_dist.engine.answers import gradient_fault, losses_fault, reference_fault

PROBLEM = small_task()  # 8 examples and 4 copies a unit
UNITS = PROBLEM.units_of(0)[:2]
SOUND = [np.ones((4, 8), np.float32), np.zeros((4, 8), np.float32)]
ARGUMENTS = ((UNITS,), np.zeros(3, np.float32))


def test_sound_losses_pass() -> None:
    assert losses_fault(PROBLEM, ARGUMENTS, SOUND) is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (None, "step 0, site 0, unit 0: a NoneType for 2 units"),
        (SOUND[:1], "step 0, site 0, unit 0: a list of 1 for 2 units"),
        (
            [SOUND[0], SOUND[1].T],
            r"unit 1: float32 of shape \(8, 4\) where float32 losses of shape \(4, 8\)",
        ),
        ([SOUND[0].astype(np.float64), SOUND[1]], r"unit 0: float64 of shape \(4, 8\)"),
        ([SOUND[0], 0.5], "unit 1: a float where"),
        ([SOUND[0], SOUND[1] + np.float32("nan")], "unit 1: losses that are not finite"),
        ([SOUND[0] / np.float32("inf") + np.float32("inf"), SOUND[1]], "unit 0: losses that are not finite"),
    ],
)
def test_what_cannot_be_losses_is_described(answer: Any, fault: str) -> None:
    found = losses_fault(PROBLEM, ARGUMENTS, answer)
    assert found is not None
    assert re.search(fault, found), found


def test_a_gradient_is_a_float32_vector_of_the_parameters_length() -> None:
    assert gradient_fault(3, (), np.array([1, np.nan, 2], np.float32)) is None  # the driver tells what is not finite
    assert (
        gradient_fault(3, (), np.zeros(2, np.float32)) == "float32 of shape (2,) where a gradient of 3 values belongs"
    )
    assert gradient_fault(3, (), [1.0, 2.0, 3.0]) == "a list of 3 where a gradient of 3 values belongs"


def test_a_generators_answer_is_one_reference(ray_session: None) -> None:
    import ray

    reference = ray.put(1)
    assert reference_fault((), (reference,)) is None
    assert reference_fault((), SOUND) == "a list of 2 where a reference to a block's rows belongs"
    assert reference_fault((), (reference, reference)) == "a tuple where a reference to a block's rows belongs"
