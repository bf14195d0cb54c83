"""Work units: shapes from the config alone, seeds that never meet."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import CONV, ES, JOINT, small_config, small_task

from glr_dist.config import load_config, preset_names
from glr_dist.core.config import NoiseConfig
from glr_dist.core.noise import TableSource, noise_source
from glr_dist.core.prediction import Voter, voted_accuracy
from glr_dist.core.units import ALL_SITES, UnitKind
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.batches import BlockSchedule
from glr_dist.engine.checks import make_task
from glr_dist.engine.config import UnitsConfig
from glr_dist.engine.plan import Plan, cut, losses_fault
from glr_dist.errors import UserError
from glr_dist.models.spec import build_model
from glr_dist.seeds import Purpose, seed_of

EIGHT_MEGABYTES = 2**21  # float32


def kind(draws: int, *, site: int = 0, signs: int = 2, widest: int = 1) -> UnitKind:
    return UnitKind(site=site, draws=draws, signs=signs, values=1, widest=widest)


def draws_of(kind: UnitKind, units: UnitsConfig, rows: int) -> tuple[int, ...]:
    return tuple(draws for _, draws in cut(kind, units, rows))


@given(
    draws=st.integers(1, 20_000),
    signs=st.integers(1, 2),
    most=st.integers(0, 64),
    rows=st.integers(1, 256),
    largest=st.integers(1, 5000),
)
def test_pieces_hold_all_draws_and_are_bounded(draws: int, signs: int, most: int, rows: int, largest: int) -> None:
    units = UnitsConfig(copies=0 if most == 1 else most)
    pieces = draws_of(kind(draws, signs=signs, widest=largest), units, rows)
    assert sum(pieces) == draws
    assert all(piece >= 1 for piece in pieces)
    assert max(pieces) - min(pieces) <= 1  # cut evenly
    if units.copies:
        assert signs * max(pieces) <= units.copies
        assert (len(pieces) - 1) * (units.copies // signs) < draws  # in no more pieces than that takes
    elif max(pieces) > 1:
        assert signs * max(pieces) * rows * largest <= max(EIGHT_MEGABYTES, 2 * rows * largest)


def test_hand_counted_pieces() -> None:
    pairs = kind(5)
    assert draws_of(pairs, UnitsConfig(copies=4), 1) == (2, 2, 1)
    assert draws_of(pairs, UnitsConfig(copies=5), 1) == (2, 2, 1)
    assert draws_of(pairs, UnitsConfig(copies=100), 1) == (5,)
    assert draws_of(kind(5000, widest=20), UnitsConfig(), 25) == (1667, 1667, 1666)
    shared = UnitKind(site=ALL_SITES, draws=8, signs=1, values=2**19, shared=True, widest=1)
    assert draws_of(shared, UnitsConfig(), 2) == (4, 4)  # a member is 2^19 weights, the unit's rows share it
    with pytest.raises(UserError, match=r"units.copies = 1: an antithetic pair is 2 copies; use 2 or more"):
        cut(pairs, UnitsConfig(copies=1), 1)


def test_units_cover_every_block_site_and_draw_once() -> None:
    schedule = BlockSchedule([50, 50], batch=20, rows=10, seed=0)
    kinds = kind(5), kind(2, site=1, signs=1)
    plan = Plan.of(kinds, schedule, UnitsConfig(copies=4), seed=3, observes=True)
    step, blocks = plan.step(7), schedule.blocks(7)
    assert [(u.block, u.site, u.number, u.draws, u.shape, u.values) for u in step.units] == [
        (blocks[0], 0, 0, 2, (4, 10), 20),
        (blocks[0], 0, 1, 2, (4, 10), 20),
        (blocks[0], 0, 2, 1, (2, 10), 10),
        (blocks[0], 1, 0, 2, (2, 10), 20),
        (blocks[1], 0, 3, 2, (4, 10), 20),
        (blocks[1], 0, 4, 2, (4, 10), 20),
        (blocks[1], 0, 5, 1, (2, 10), 10),
        (blocks[1], 1, 1, 2, (2, 10), 20),
    ]
    assert {u.step for u in step.units} == {7}
    assert str(step.units[3]) == "step 7, site 1, unit 0"
    assert [(b.number, b.block, b.positions) for b in step.blocks] == [
        (0, blocks[0], range(4)),
        (1, blocks[1], range(4, 8)),
    ]
    assert [b.units for b in step.blocks] == [step.units[:4], step.units[4:]]
    assert (plan.units_per_step, plan.noisy_forwards_per_step, plan.losses_per_step, plan.largest_draw) == (
        8,
        240,
        240,
        20,
    )


def test_a_plan_without_noise_has_blocks_alone() -> None:
    plan = Plan.of([], BlockSchedule([50], batch=20, rows=10, seed=0), UnitsConfig(), seed=3, observes=False)
    assert [(b.number, b.units) for b in plan.step(0).blocks] == [(0, ()), (1, ())]
    assert (plan.units_per_step, plan.noisy_forwards_per_step, plan.losses_per_step, plan.largest_draw) == (0, 0, 0, 0)


def test_losses_that_autograd_sees_do_not_come_home() -> None:
    plan = small_task({"method": "bp-noise", "model.activation": "tanh"}).plan
    assert plan.noisy_forwards_per_step == 8 * 32  # copies of a batch
    assert plan.losses_per_step == 0


def test_a_plan_is_light_and_needs_no_torch() -> None:
    assert len(pickle.dumps(small_task().plan)) < 4096
    code = "import sys, glr_dist.engine.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SOUND = np.ones((4, 8), np.float32), np.zeros((4, 8), np.float32)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (list(SOUND), None),
        (None, "step 0, site 0, unit 0: a NoneType for 2 units"),
        ([SOUND[0]], "step 0, site 0, unit 0: a list of 1 for 2 units"),
        ([SOUND[0], SOUND[1].T], "unit 1: float32 of shape (8, 4) where float32 losses of shape (4, 8)"),
        ([SOUND[0].astype(np.float64), SOUND[1]], "unit 0: float64 of shape (4, 8)"),
        ([SOUND[0], 0.5], "unit 1: a float where"),
        ([SOUND[0], SOUND[1] + np.float32("nan")], "unit 1: losses that are not finite"),
        ([SOUND[0] + np.float32("inf"), SOUND[1]], "unit 0: losses that are not finite"),
    ],
)
def test_what_cannot_be_losses_is_described(answer: Any, fault: str | None) -> None:
    found = losses_fault(small_task().plan.step(0).units[:2], answer)  # 8 examples and 4 copies a unit
    assert found is None if fault is None else fault in str(found)


@pytest.mark.parametrize("keys", [{}, JOINT, ES, CONV, CONV | JOINT, CONV | ES, {"model.hidden": [2, 4096]}])
def test_no_tensor_of_a_unit_outgrows_its_bound(keys: dict[str, Any]) -> None:
    """Behind the noise there is a row per copy, so a wide layer behind a narrow one counts too."""
    task = small_task({"estimator.copies": 10_000, "units.copies": 0, "noise.table_size": 2**23} | keys)
    widths, device = [site.size for site in task.sites], torch.device("cpu")
    source = noise_source(task.noise, task.make_table(), device)
    units = task.plan.step(0).units
    for unit in units:
        assert unit.draws * 8 * max(widths[max(unit.site, 0) :]) <= EIGHT_MEGABYTES
    for site in {unit.site for unit in units}:
        largest = max((unit for unit in units if unit.site == site), key=lambda unit: unit.draws)
        assert sum(eps.numel() for eps in task.draw(source, largest, device).values()) <= EIGHT_MEGABYTES


def test_units_do_not_depend_on_who_works() -> None:
    plain = small_task().plan.step(3).units
    crowd = {"engine.workers": 7, "engine.reconstructors": 3, "engine.in_flight": 5, "engine.threads": 2}
    assert small_task(crowd).plan.step(3).units == plain
    assert small_task({"seed": 1}).plan.step(3).units != plain  # the seed chooses the rows


def spawn_keys() -> Iterator[tuple[int, ...]]:
    """Of all that draws: the units of several steps of every scheme, and every purpose with keys of all lengths in use."""
    kinds = [kind(3, site=site) for site in (ALL_SITES, 0, 1, 2, 1000)]
    plan = Plan.of(kinds, BlockSchedule([50], batch=20, rows=10, seed=0), UnitsConfig(copies=2), seed=5, observes=True)
    for step in (0, 1, 2, 1000, 2**30):
        yield from (tuple(unit.seed(plan.seed).spawn_key) for unit in plan.step(step).units)
    for purpose in Purpose.__members__.values():  # an alias too: two purposes of one value
        for length in range(4):
            yield from (seed_of(5, purpose, *words).spawn_key for words in product((0, 1, 2, 1000), repeat=length))


def test_spawn_keys_never_collide() -> None:
    keys = list(spawn_keys())
    assert len(keys) == 5 * 2 * 5 * 3 + len(Purpose.__members__) * (1 + 4 + 16 + 64)
    assert len(set(keys)) == len(keys)
    states = {tuple(np.random.SeedSequence(5, spawn_key=key).generate_state(2, np.uint64).tolist()) for key in keys}
    assert len(states) == len(keys)


def test_a_run_asks_for_each_sequence_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every spawn key that orders, table, units of some steps and votes really use: all different."""
    used: list[tuple[int, tuple[int, ...]]] = []
    sequence = np.random.SeedSequence

    def noted(seed: int, *, spawn_key: tuple[int, ...]) -> np.random.SeedSequence:
        used.append((seed, tuple(spawn_key)))
        return sequence(seed, spawn_key=spawn_key)

    task = small_task({"seed": 987})
    monkeypatch.setattr(np.random, "SeedSequence", noted)
    task.make_table()
    for step in range(100):  # more than two epochs
        for unit in task.plan.step(step).units:
            unit.seed(task.plan.seed)
        for block in task.plan.schedule.blocks(step):
            task.plan.schedule.row_numbers(block)
    voter = Voter(model=task.model, sites=task.sites, noise=NoiseConfig())
    voted_accuracy(voter, 3, task.loss, task.data.batches("validation", 50), task.plan.seed)
    assert {seed for seed, _ in used} == {987}
    assert len(used) > 100 * 2 * 2 * 4
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("preset", [name for name in preset_names() if load_config(name).method != "bp"])
def test_units_of_a_preset_see_different_slices_of_its_table(preset: str) -> None:
    """Of independent offsets, a slice shares a value with the next one in no more than half of the cases."""
    config = load_config(preset)
    side = 8 if config.data.name == "digits" else 28
    data = ArrayDataset((np.zeros((2000, 1, side, side), np.uint8), np.arange(2000) % 10), shards=2)
    task = make_task(config, build_model(config.model, data.shape, 10, 0), data, None)
    source = TableSource(config.noise.family, torch.empty(config.noise.table_size))
    units = [unit for step in range(50) for unit in task.plan.step(step).units]
    sizes = [unit.values for unit in units]
    slices = [source.values(unit.seed(0), size) for unit, size in zip(units, sizes, strict=True)]
    starts = [int(values.storage_offset()) for values in slices]
    assert all(start != following for start, following in pairwise(starts))
    apart = [abs(a - b) >= size for a, b, size in zip(starts, starts[1:], sizes[1:], strict=False)]
    assert sum(apart) > len(apart) / 2


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"units.rows": 5}, r"units.rows = 5: must divide batch = 32"),
        ({"units.rows": -1}, r"units.rows = -1: must be 0 \(automatic\) or more"),
        ({"units.copies": -1}, r"units.copies = -1: must be 0"),
        ({"units.copies": 1}, r"units.copies = 1: an antithetic pair is 2 copies"),
        ({"batch": 4000, "units.rows": 0}, r"batch = 4000: 1259 training rows in 3 shards give .*lower batch"),
        ({"batch": 512, "units.rows": 512}, r"batch = 512: .* give 0 blocks of units.rows = 512"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_task(keys)


def test_rows_by_default_are_a_quarter_of_the_batch() -> None:
    assert UnitsConfig().rows_for(128) == 32
    assert UnitsConfig().rows_for(25) == 25
    assert UnitsConfig(rows=16).rows_for(128) == 16
    assert small_config({"units.rows": 0}).units.rows_for(32) == 8
