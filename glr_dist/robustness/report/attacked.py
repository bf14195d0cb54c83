"""Accuracy under attack, counted three times, each the per-sample worst of the one before: rows, lines, worst cases.

Denominators: ``all`` selected samples, and for each surrogate those that it classifies right (``surrogate_right``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_dist.robustness.findings import AttackOutcome, Findings, Mask
from glr_dist.robustness.report.intervals import accuracy
from glr_dist.robustness.report.networks import traits
from glr_dist.robustness.report.tally import (
    Proof,
    groups,
    label,
    of_networks,
    proofs,
    sorted_by_key,
    source,
    worst,
    worst_case,
)


def attack_rows(findings: Findings) -> list[dict[str, Any]]:
    """A row for each network, source and size; of each network the first is the clean sample, size 0."""
    return [row for members in groups(findings.models).values() for row in _rows(findings, members)]


def _rows(findings: Findings, members: Sequence[int]) -> list[dict[str, Any]]:
    cards = [findings.models[index] for index in members]
    about = {"model": cards[0].name, **traits(cards, ("method", "loss", "activation"))}
    cells = sorted_by_key(of_networks(findings.attacks, members), lambda o: (source(o), o.attack.epsilon))
    rows = [_clean(findings, members), *(_attacked(findings, outcomes) for outcomes in cells.values())]
    return [{**about, **row} for row in rows]


def _clean(findings: Findings, members: Sequence[int]) -> dict[str, Any]:
    return {
        "attack": "none",
        "settings": "",
        "epsilon": 0.0,
        "knowledge": "none",
        "library": "",
        "restarts": 0,
        "queries": 0.0,
        "surrogate": None,
        "undecided": None,
        "without_gradient": 0,
        "seconds": 0.0,
        **_denominators(findings, {index: findings.models[index].right for index in members}, None),
    }


def _attacked(findings: Findings, outcomes: Sequence[AttackOutcome]) -> dict[str, Any]:
    """One source and size, over the networks of one name."""
    first = outcomes[0]
    return {
        "attack": first.attack.name,
        "settings": first.attack.words,
        "epsilon": first.attack.epsilon,
        "knowledge": first.knowledge,
        "library": " / ".join(dict.fromkeys(outcome.library for outcome in outcomes)),
        "restarts": first.attack.tries,
        "queries": float(np.mean([outcome.queries for outcome in outcomes])),
        "surrogate": _used_surrogate(findings, first),
        "undecided": _undecided(outcomes),
        "without_gradient": max(outcome.without_gradient for outcome in outcomes),
        "seconds": sum(outcome.seconds for outcome in outcomes),
        **_denominators(findings, worst(outcomes), first.surrogate),
    }


def _used_surrogate(findings: Findings, outcome: AttackOutcome) -> dict[str, Any] | None:
    """The surrogate of a transfer with its own accuracy, clean and under the same samples (None: not measured)."""
    index = outcome.surrogate
    if index is None:
        return None
    same = [
        own.right
        for own in findings.surrogate_attacks
        if own.model == index
        and own.attack.epsilon == outcome.attack.epsilon
        and source(own)[:2] == source(outcome)[:2]  # the attack and its settings
    ]
    card = findings.surrogates[index]
    return {
        "name": label(findings.surrogates, index),
        "sha256": card.sha256,
        "clean": float(card.right.mean()),
        "attacked": float(np.logical_and.reduce(same).mean()) if same else None,
    }


def _denominators(findings: Findings, masks: dict[int, Mask], surrogate: int | None) -> dict[str, Any]:
    """Accuracy on all samples, and on those that the attack's surrogate (else each surrogate) gets right."""
    shown = range(len(findings.surrogates)) if surrogate is None else (surrogate,)
    right = list(masks.values())
    return {
        "all": accuracy(right),
        "surrogate_right": [
            {"surrogate": label(findings.surrogates, index), **found}
            for index in shown
            if (found := accuracy(right, among=findings.surrogates[index].right)) is not None
        ],
    }


def _undecided(outcomes: Sequence[AttackOutcome]) -> float | None:
    """The share of samples that proofs neither proved nor broke; None for the attacks."""
    shares = [float(outcome.undecided.mean()) for outcome in outcomes if outcome.undecided is not None]
    return float(np.mean(shares)) if shares else None


def attack_lines(findings: Findings) -> list[dict[str, Any]]:
    """Accuracy by network, attack, knowledge and size, over the surrogates and settings."""
    return [
        {
            "model": name,
            "attack": attack,
            "knowledge": knowledge,
            "epsilon": epsilon,
            "sources": len({source(outcome) for outcome in outcomes}),
            **(accuracy(list(worst(outcomes).values())) or {}),
        }
        for name, members in groups(findings.models).items()
        for (attack, knowledge, epsilon), outcomes in sorted_by_key(
            of_networks(findings.attacks, members), lambda o: (o.attack.name, o.knowledge, o.attack.epsilon)
        ).items()
    ]


def _shares(found: Sequence[Proof]) -> dict[str, float | None]:
    """Of the samples, mean over the networks: how they were proved, or not; None where nobody tried."""
    names = ("intervals", "program", "broken", "undecided")
    return {name: float(np.mean([proof.shares[name] for proof in found])) if found else None for name in names}


def worst_cases(findings: Findings) -> list[dict[str, Any]]:
    """The worst case and the exact answer, by network and size."""
    entries = []
    for name, members in groups(findings.models).items():
        mine = of_networks(findings.attacks, members)
        for epsilon in sorted({outcome.attack.epsilon for outcome in mine}):
            found = list(proofs(o for o in mine if o.attack.epsilon == epsilon).values())
            entries.append(
                {
                    "model": name,
                    "epsilon": epsilon,
                    "worst": accuracy(list(worst_case(findings, members, epsilon).values())),
                    "exact": accuracy([proof.safe for proof in found]),
                    **_shares(found),
                }
            )
    return entries
