"""A seat never works with parameters or rows that are not those of the call at hand."""

from __future__ import annotations

import torch
from small_runs import small_task

from glr_dist.core.parameters import flat_parameters
from glr_dist.engine.seat import Seat


def test_parameters_that_were_written_to_in_place_are_loaded_anew() -> None:
    task = small_task({})
    seat, block = Seat(task, task.make_table()), task.plan.schedule.blocks(0)[0]
    theta = flat_parameters(task.model).numpy().copy()
    seat.at(theta, block)
    theta += 1.0
    seat.at(theta, block)
    assert torch.equal(flat_parameters(seat.net.model), torch.from_numpy(theta))


def test_rows_are_kept_until_they_are_changed_or_others_are_wanted() -> None:
    task = small_task({})
    seat, (one, other, *_) = Seat(task, task.make_table()), task.plan.schedule.blocks(0)
    theta = flat_parameters(task.model).numpy()
    x, _ = seat.at(theta, one)
    expected = x.clone()
    assert seat.at(theta, one)[0] is x
    x.zero_()  # a network may work in place on what it is given
    assert torch.equal(seat.at(theta, one)[0], expected)
    assert torch.equal(seat.at(theta, other)[0], task.rows(other)[0])


def test_noise_is_that_of_the_unit_whatever_was_asked_before() -> None:
    task = small_task({})
    seat, table = Seat(task, task.make_table()), task.make_table()
    theta = flat_parameters(task.model).numpy()
    for plan in (task.plan.step(0), task.plan.step(0, repeat=1), task.plan.step(1), task.plan.step(0)):
        for unit in plan.units:
            seat.at(theta, unit.block)
            again, fresh = seat.noise(unit), Seat(task, table).noise(unit)
            assert again.keys() == fresh.keys() and all(torch.equal(again[site], fresh[site]) for site in fresh)
