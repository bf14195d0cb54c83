"""Which samples are looked at, and how they are cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_nets import digits

from glr_dist.errors import UserError
from glr_dist.robustness.selection import Chunk, Selection, chunk_seed, chunks, rows_at


def test_all_samples_in_stored_order_are_the_default() -> None:
    assert np.array_equal(Selection().of(digits()), np.arange(digits().count("test")))


def test_a_smaller_count_takes_a_part_of_what_a_larger_one_takes() -> None:
    few, many = (Selection(count=count, seed=3).of(digits()) for count in (20, 90))
    assert len(few) == 20
    assert (np.diff(few) > 0).all()
    assert set(few) < set(many)


def test_the_seed_and_the_split_choose() -> None:
    one, two = (Selection(count=20, seed=seed).of(digits()) for seed in (0, 1))
    assert set(one) != set(two)
    assert Selection(split="validation").of(digits()).max() == digits().count("validation") - 1


@pytest.mark.parametrize(
    ("selection", "mention"),
    [
        (Selection(count=0), "--count 0"),
        (Selection(count=10_000), "--count 10000"),
        (Selection(split="tests"), "'tests'"),
    ],
)
def test_an_empty_or_impossible_selection_is_refused(selection: Selection, mention: str) -> None:
    with pytest.raises(UserError, match=mention):
        selection.of(digits())


def test_chunks_are_all_samples_once_in_order() -> None:
    indices = np.arange(250) * 2
    cut = list(chunks(indices))
    assert [len(chunk.indices) for chunk in cut] == [100, 100, 50]
    assert [chunk.start for chunk in cut] == [0, 100, 200]
    assert np.array_equal(np.concatenate([chunk.indices for chunk in cut]), indices)


def test_seeds_differ_by_chunk_and_by_attack_and_are_the_same_again() -> None:
    states = [
        chunk_seed(seed, what, Chunk(number, 0, np.arange(1))).generate_state(4).tobytes()
        for seed in (0, 1)
        for what in ("pgd 0.1", "pgd 0.2")
        for number in (0, 1)
        for _ in range(2)
    ]
    assert states[::2] == states[1::2]
    assert len(set(states)) == 8


@pytest.mark.parametrize("shards", [1, 3])
def test_rows_across_shards_are_those_of_the_stored_order(shards: int) -> None:
    data = digits(shards)
    ((x, labels),) = data.batches("train", 10_000)
    indices = np.array([0, 1, 430, 431, 432, 433, 900, len(labels) - 1])
    rows, truth = rows_at(data, "train", indices)
    assert torch.equal(rows, x[torch.from_numpy(indices)])
    assert torch.equal(truth, labels[torch.from_numpy(indices)])
