"""Work units: shapes from the config alone, seeds that never meet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import CONV, ES, JOINT, small_config, small_task

from glr_dist.config import load_config, preset_names
from glr_dist.core.config import EstimatorConfig
from glr_dist.core.noise import GeneratorSource, TableSource
from glr_dist.core.prediction import voted_accuracy
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.batches import Block
from glr_dist.engine.checks import make_task
from glr_dist.engine.config import UnitsConfig
from glr_dist.engine.plan import ALL_SITES, WorkUnit, draw_chunks, step_units
from glr_dist.errors import UserError
from glr_dist.models.spec import build_model

EIGHT_MEGABYTES = 2**21  # float32


@given(
    pairs=st.integers(2, 20_000),
    antithetic=st.booleans(),
    most=st.integers(0, 64),
    rows=st.integers(1, 256),
    largest=st.integers(1, 5000),
)
def test_chunks_hold_all_draws_in_bounded_pieces(
    pairs: int, antithetic: bool, most: int, rows: int, largest: int
) -> None:
    copies = 2 * pairs
    estimator = EstimatorConfig(copies=copies, antithetic=antithetic)
    units = UnitsConfig(copies=0 if most == 1 else most)
    chunks = draw_chunks(estimator, units, rows, largest)
    signs = 2 if antithetic else 1
    assert signs * sum(chunks) == copies
    assert all(chunk >= 1 for chunk in chunks)
    assert max(chunks) - min(chunks) <= 1  # cut evenly
    if units.copies:
        assert signs * max(chunks) <= units.copies
        assert (len(chunks) - 1) * (units.copies // signs) < sum(chunks)  # in no more pieces than that takes
    elif max(chunks) > 1:
        assert signs * max(chunks) * rows * largest <= max(EIGHT_MEGABYTES, 2 * rows * largest)


def test_hand_counted_chunks() -> None:
    estimator = EstimatorConfig(copies=10)  # 5 antithetic pairs
    assert draw_chunks(estimator, UnitsConfig(copies=4), 1, 1) == (2, 2, 1)
    assert draw_chunks(estimator, UnitsConfig(copies=5), 1, 1) == (2, 2, 1)
    assert draw_chunks(estimator, UnitsConfig(copies=100), 1, 1) == (5,)
    assert draw_chunks(EstimatorConfig(copies=10_000), UnitsConfig(), 25, 20) == (1667, 1667, 1666)
    with pytest.raises(UserError, match=r"units.copies = 1: an antithetic pair is 2 copies; use 2 or more"):
        draw_chunks(estimator, UnitsConfig(copies=1), 1, 1)


def test_units_cover_every_block_site_and_draw_once() -> None:
    blocks = [Block(0, 1, 5), Block(0, 0, 2)]
    units = step_units(7, blocks, {0: (2, 2, 1), 1: (5,)})
    assert [(u.block, u.site, u.unit, u.draws) for u in units] == [
        (blocks[0], 0, 0, 2),
        (blocks[0], 0, 1, 2),
        (blocks[0], 0, 2, 1),
        (blocks[0], 1, 0, 5),
        (blocks[1], 0, 3, 2),
        (blocks[1], 0, 4, 2),
        (blocks[1], 0, 5, 1),
        (blocks[1], 1, 1, 5),
    ]
    assert {u.step for u in units} == {7}
    assert str(units[3]) == "step 7, site 1, unit 0"


@pytest.mark.parametrize("keys", [{}, JOINT, ES, CONV, CONV | JOINT, CONV | ES, {"model.hidden": [2, 4096]}])
def test_no_tensor_of_a_unit_outgrows_its_bound(keys: dict[str, Any]) -> None:
    """Behind the noise there is a row per copy, so a wide layer behind a narrow one counts too."""
    task = small_task({"estimator.copies": 10_000, "units.copies": 0, "noise.table_size": 2**23} | keys)
    widths, device = [site.size for site in task.sites], torch.device("cpu")
    source = task.noise_source(task.make_table(), device)
    for unit in task.units_of(0):
        assert unit.draws * 8 * max(widths[max(unit.site, 0) :]) <= EIGHT_MEGABYTES
    for site in task.noise_sizes():
        largest = max((unit for unit in task.units_of(0) if unit.site == site), key=lambda unit: unit.draws)
        assert sum(eps.numel() for eps in task.draw(source, largest, device).values()) <= EIGHT_MEGABYTES


def test_units_do_not_depend_on_who_works() -> None:
    plain = small_task().units_of(3)
    crowd = {"engine.workers": 7, "engine.reconstructors": 3, "engine.in_flight": 5, "engine.threads": 2}
    assert small_task(crowd).units_of(3) == plain
    assert small_task({"seed": 1}).units_of(3) != plain  # the seed chooses the rows


def spawn_keys() -> Iterator[tuple[int, ...]]:
    """Of every sequence that runs of many shapes draw from, some of which have steps and sites with the same numbers."""
    for step in (0, 1, 2, 1000, 2**31):
        for site in (ALL_SITES, 0, 1, 2):
            for unit in (0, 1, 2, 1000):
                yield WorkUnit(step, site, unit, Block(0, 0, 0), 1).seed(5).spawn_key
    for epoch in (0, 1, 2, 1000):
        yield (2**32 - 2, epoch)
        yield from ((2**32 - 2, epoch, shard + 1) for shard in (0, 1, 2))
    yield (2**32 - 3,)
    yield from ((2**32 - 4, batch, vote) for batch in (0, 1, 2, 1000) for vote in (0, 1, 2))


def test_spawn_keys_never_collide() -> None:
    keys = list(spawn_keys())
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
        for unit in task.units_of(step):
            unit.seed(task.seed)
        for block in task.schedule.blocks(step):
            task.schedule.row_numbers(block)
    source, batches = GeneratorSource("gaussian"), task.data.batches("validation", 50)
    voted_accuracy(task.model, task.sites, source, 1.0, 3, task.loss, batches, task.seed)
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
    units = [unit for step in range(50) for unit in task.units_of(step)]
    sizes = [task.noise_count(unit) for unit in units]
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
