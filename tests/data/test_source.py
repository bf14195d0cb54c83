"""The split rules: fixed for ever, disjoint and complete."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glr_dist.data.source import hold_out, shards_for, split_sizes, spread
from glr_dist.errors import UserError
from glr_dist.seeds import permutation

PINNED = [4, 3, 0, 2, 1, 5, 7, 6]


def test_permutation_is_pinned_so_that_no_upgrade_moves_a_row() -> None:
    assert permutation(8, 0, 3).tolist() == PINNED
    assert permutation(8, 0, 4).tolist() != PINNED


@given(rows=st.integers(1, 300), share=st.floats(0, 0.99), shard=st.integers(0, 20))
def test_held_out_rows_are_disjoint_complete_and_sorted(rows: int, share: float, shard: int) -> None:
    cut = hold_out(rows, share, shard)
    assert sorted([*cut["train"], *cut["validation"]]) == list(range(rows))
    assert len(cut["validation"]) == round(share * rows)
    assert all((np.diff(cut[split]) > 0).all() for split in cut)
    assert split_sizes({"train": (rows,)}, share, "train") == (len(cut["train"]),)


def test_different_shards_hold_out_different_rows() -> None:
    assert hold_out(100, 0.1, 0)["validation"].tolist() != hold_out(100, 0.1, 1)["validation"].tolist()


def test_spread_deals_every_row_once() -> None:
    parts = spread(10, 4)
    assert [len(part) for part in parts] == [3, 3, 2, 2]
    assert sorted(np.concatenate(parts).tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("rows", "train_rows", "shards", "expected"),
    [(10_000, 60_000, 8, 2), (360, 1437, 8, 3), (1437, 1437, 8, 8), (1, 1000, 4, 1), (2, 1, 8, 2)],
)
def test_test_shards_follow_the_test_rows(rows: int, train_rows: int, shards: int, expected: int) -> None:
    assert shards_for(rows, train_rows, shards) == expected


def test_a_missing_split_is_empty_and_a_wrong_name_is_refused() -> None:
    assert split_sizes({"train": (5, 5)}, 0.0, "validation") == ()
    assert split_sizes({"train": (5, 5)}, 0.2, "test") == ()
    with pytest.raises(UserError, match="did you mean 'validation'"):
        split_sizes({"train": (5, 5)}, 0.2, "validate")
