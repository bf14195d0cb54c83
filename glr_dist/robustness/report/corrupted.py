"""Accuracy on corrupted samples: by severity, their mean, and last the mean over all corruptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_dist.robustness.findings import CorruptionOutcome, Findings
from glr_dist.robustness.report.intervals import accuracy, over_seeds
from glr_dist.robustness.report.tally import groups, sorted_by_key


def corruption_entries(findings: Findings) -> list[dict[str, Any]]:
    """An entry for each network and corruption, then one for all corruptions of that network."""
    entries = []
    for name, members in groups(findings.models).items():
        mine = [outcome for outcome in findings.corruptions if outcome.model in members]
        mine.sort(key=lambda o: (o.corruption, o.severity, o.model))
        entries += _entries(name, mine) if mine else []
    return entries


def _entries(name: str, mine: Sequence[CorruptionOutcome]) -> list[dict[str, Any]]:
    by_corruption = sorted_by_key(mine, lambda o: o.corruption)
    entries: list[dict[str, Any]] = []
    for corruption, outcomes in by_corruption.items():
        severities = sorted_by_key(outcomes, lambda o: o.severity)
        by_severity = [
            {"severity": severity, **(accuracy([o.right for o in same]) or {})} for severity, same in severities.items()
        ]
        mean = over_seeds(list(_means(outcomes).values()))
        entries.append({"model": name, "corruption": corruption, "severities": by_severity, "mean": mean})
    each = [_means(outcomes) for outcomes in by_corruption.values()]
    means = [float(np.mean([found[index] for found in each if index in found])) for index in _means(mine)]
    return [*entries, {"model": name, "corruption": "all", "severities": [], "mean": over_seeds(means)}]


def _means(outcomes: Sequence[CorruptionOutcome]) -> dict[int, float]:
    """By network: accuracy, averaged over the outcomes."""
    by_network = sorted_by_key(sorted(outcomes, key=lambda o: o.model), lambda o: o.model)
    return {index: float(np.mean([o.right.mean() for o in same])) for index, same in by_network.items()}
