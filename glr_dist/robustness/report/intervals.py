"""Accuracies with 95% intervals: over the samples of one network, or over networks that differ in their seed.

One network: Wilson's interval (1927) of k right among n samples. S networks: Student's (1908), mean +- t * sd / sqrt(S)
with t of S-1 degrees of freedom, cut to [0, 1]; it tells how far another seed may land on the same samples, and does not
know of the samples' own sampling noise.

n: samples. S: seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_dist.core.intervals import student, wilson
from glr_dist.robustness.findings import Mask

OVER_SAMPLES = "Wilson, over samples"
OVER_SEEDS = "Student's t, over seeds"


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean and spread of numbers that are one a seed, [S]; without spread or interval where there is one seed only."""
    seeds, mean = len(values), float(np.mean(values))
    if seeds == 1:
        return {"seeds": 1, "mean": mean, "sd": None, "low": None, "high": None, "interval": None}
    sd, half = float(np.std(values, ddof=1)), student(values)
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return {"seeds": seeds, "mean": mean, "sd": sd, "low": low, "high": high, "interval": OVER_SEEDS}


def accuracy(masks: Sequence[Mask], among: Mask | None = None) -> dict[str, Any] | None:
    """The share of samples that are right, averaged over the seeds, with its 95% interval; None without samples.

    There is a mask [n] of those that are right for each seed; ``among`` [n] says which samples count, if not all.
    """
    counted = [mask if among is None else mask[among] for mask in masks]
    if not counted or counted[0].size == 0:
        return None
    found = {"samples": int(counted[0].size), **over_seeds([float(mask.mean()) for mask in counted])}
    if len(counted) == 1:
        low, high = wilson(int(counted[0].sum()), int(counted[0].size))
        found |= {"low": low, "high": high, "interval": OVER_SAMPLES}
    return found
