"""95% intervals: of a share (Wilson, 1927), and of the mean of numbers that are one a seed (Student, 1908)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.95


def wilson(right: int, n: int) -> tuple[float, float]:
    """The two ends of the interval of a share of which ``right`` among ``n`` were seen; n is at least 1."""
    from scipy import stats  # takes a second to import

    low, high = stats.binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)


def student(values: Sequence[float]) -> float:
    """Half the width of the interval of the mean of S numbers, t of S-1 degrees of freedom; S is at least 2."""
    from scipy import stats

    seeds = len(values)
    # stats.t.interval gives NaN where all values are equal
    return float(stats.t.ppf((1 + LEVEL) / 2, seeds - 1)) * float(np.std(values, ddof=1)) / math.sqrt(seeds)
