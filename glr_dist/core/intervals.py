"""The 95% interval of a share: Wilson's (1927) of k right among n examples."""

from __future__ import annotations

LEVEL = 0.95


def wilson(right: int, n: int) -> tuple[float, float]:
    """The two ends of the 95% interval of a share of which ``right`` among ``n`` were seen; n is at least 1."""
    from scipy import stats  # takes a second to import

    low, high = stats.binomtest(right, n).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)
