"""Random numbers: every purpose that draws them, in one table, and the way from a seed and a key to a draw.

Two draws of one seed are independent when their spawn keys differ. Work units have the keys (step, site, unit); the first
word of every other key is a Purpose, and no step or site comes near these numbers.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What a draw is for: the first word of its spawn key. A value that changes changes every result that hangs on it."""

    ORDER = 2**32 - 2  # of the training rows, epoch by epoch
    TABLE = 2**32 - 3  # the noise table
    VOTE = 2**32 - 4  # noise of a prediction by noisy passes
    ROWS = 2**32 - 5  # jitter on training rows, and random starts of their attacks
    REPEAT = 2**32 - 6  # noise of the units of a step that is estimated once more
    SELECTION = 0x73656C65  # which samples an evaluation looks at
    ATTACK = 0x61747461  # an attack on a chunk of samples
    SHOWN = 0x73686F77  # which samples a report shows
    CORRUPTION = 0x636F7272  # a corruption's noise
    TUNING = 0x74756E65  # which values a tuning tries


def seed_of(seed: int, *key: int) -> np.random.SeedSequence:
    """The seed of one draw.

    Args:
        seed: of the run or the evaluation.
        key: what the draw is for: a Purpose and what tells it from others of its kind, or a work unit's place.
    """
    return np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in key))


def permutation(rows: int, seed: int, *key: int) -> NDArray[np.int64]:
    """A random order that never changes: sorts the raw output of PCG64 on `seed_of`.

    numpy promises the raw streams for good, but not what `Generator.permutation` makes of them; two machines
    with different versions of numpy must hold out the same rows.

    Args:
        rows: how many rows to order.
        seed: the SeedSequence's entropy.
        key: the SeedSequence's spawn key.

    Returns:
        [rows], each of 0..rows-1 once.
    """
    stream = np.random.PCG64(seed_of(seed, *key))
    return np.argsort(stream.random_raw(rows), kind="stable")
