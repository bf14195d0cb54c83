"""Accuracies with 95% intervals: over the samples of one network, or over networks that differ in their seed.

One network, k of n samples right (Wilson, 1927), with z the normal's 97.5% quantile:

    (k + z^2/2  +-  z * sqrt(k (n-k) / n + z^2/4)) / (n + z^2)

S networks (Student, 1908): mean +- t * sd / sqrt(S), with t of S-1 degrees of freedom, cut to [0, 1]. It tells how far
another seed may land on the same samples; it does not know of the samples' own sampling noise.

n: samples. S: seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit

from glr_dist.robustness.findings import Mask

OVER_SAMPLES = "Wilson, over samples"
OVER_SEEDS = "Student's t, over seeds"
_TWO_SIDED = 0.975


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95% interval of a share of independent samples.

    Args:
        right: how many were right.
        count: of how many, at least 1.

    Returns:
        Its ends, in [0, 1].
    """
    assert 0 <= right <= count and count > 0
    z = float(ndtri(_TWO_SIDED))
    middle = right + z * z / 2
    half = z * math.sqrt(right * (count - right) / count + z * z / 4)
    total = count + z * z
    return max(0.0, (middle - half) / total), min(1.0, (middle + half) / total)


def student(values: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the mean of accuracies, one a seed.

    Args:
        values: [S], at least 2.

    Returns:
        Its ends, cut to [0, 1].
    """
    assert len(values) > 1
    half = float(stdtrit(len(values) - 1, _TWO_SIDED)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return max(0.0, mean - half), min(1.0, mean + half)


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean and spread of numbers that are one a seed; without spread or interval where there is one seed only.

    Args:
        values: [S], at least 1.
    """
    several = len(values) > 1
    low, high = student(values) if several else (None, None)
    return {
        "seeds": len(values),
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if several else None,
        "low": low,
        "high": high,
        "interval": OVER_SEEDS if several else None,
    }


def accuracy(masks: Sequence[Mask], among: Mask | None = None) -> dict[str, Any] | None:
    """The share of samples that are right, averaged over the seeds, with its 95% interval.

    Args:
        masks: [n] right, one mask a seed.
        among: [n] the samples that count; None: all.

    Returns:
        ``samples``, ``seeds``, ``mean``, ``sd``, ``low``, ``high`` and which ``interval`` it is; None without samples.
    """
    counted = [mask if among is None else mask[among] for mask in masks]
    if not counted or counted[0].size == 0:
        return None
    found = {"samples": int(counted[0].size), **over_seeds([float(mask.mean()) for mask in counted])}
    if len(counted) == 1:
        found["low"], found["high"] = wilson(int(counted[0].sum()), int(counted[0].size))
        found["interval"] = OVER_SAMPLES
    return found
