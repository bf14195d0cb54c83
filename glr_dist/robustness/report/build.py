"""What an evaluation found, as numbers: report.json.

The same findings give the same report, byte for byte; only entries named ``seconds`` depend on the machine. Accuracies
are shares in [0, 1], averaged over the networks of one name (its seeds). Three levels, each the per-sample worst of
the one before:

    attacks   network, attack with its settings, surrogate, size; size 0 is the clean sample
    lines     network, attack, what it knows, size: over surrogates and settings
    worst     network, size: over all attacks and the clean sample; beside it the exact answer, where there is one

Denominators: ``all`` selected samples, and for each surrogate those that it classifies right (``surrogate_right``).
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any

import numpy as np

from glr_dist import __version__
from glr_dist.robustness.findings import AttackOutcome, CorruptionOutcome, Findings, Mask, ModelCard
from glr_dist.robustness.report.intervals import accuracy, over_seeds
from glr_dist.robustness.report.markdown import as_markdown
from glr_dist.robustness.report.pictures import draw_pictures
from glr_dist.robustness.report.tally import (
    SETTINGS,
    groups,
    in_order,
    label,
    of_networks,
    setting,
    settings_text,
    sorted_by_key,
    source,
    worst,
    worst_case,
)
from glr_dist.robustness.report.verdicts import verdicts
from glr_dist.store.storage import Storage

_DIGITS = 6  # significant ones
_TRAITS = ("method", "loss", "activation", "architecture", "noise", "votes")


def write_report(folder: Storage, findings: Findings) -> dict[str, Any]:
    """Write report.md, pictures/*.png and, last, report.json.

    Args:
        folder: where to; files of these names are replaced.
        findings: of the evaluation.

    Returns:
        The content of report.json.
    """
    report = build_report(findings)
    pictures = draw_pictures(report, findings)
    folder.delete("pictures")
    if pictures:
        folder.write_folder("pictures", {picture.file: picture.png for picture in pictures})
    links = [(picture.title, f"pictures/{picture.file}") for picture in pictures]
    folder.write("report.md", as_markdown(report, links).encode())
    folder.write("report.json", f"{json.dumps(report, indent=1, allow_nan=False)}\n".encode())
    return report


def build_report(findings: Findings) -> dict[str, Any]:
    """The content of report.json.

    Args:
        findings: of the evaluation; the order of its outcomes does not matter.
    """
    assert all(outcome.right.shape == findings.labels.shape for outcome in findings.attacks)
    by_name = groups(findings.models)
    report = {
        "conditions": _conditions(findings),
        "models": [_model(findings, members) for members in by_name.values()],
        "surrogates": [_surrogate(findings, index) for index in range(len(findings.surrogates))],
        "attacks": [row for members in by_name.values() for row in _attacks(findings, members)],
        "lines": [line for members in by_name.values() for line in _lines(findings, members)],
        "worst": [entry for members in by_name.values() for entry in _worst(findings, members)],
        "corruptions": [entry for members in by_name.values() for entry in _corruptions(findings, members)],
        "verdicts": [asdict(verdict) for verdict in verdicts(findings)],
    }
    rounded: dict[str, Any] = _rounded(report)
    return rounded


def _conditions(findings: Findings) -> dict[str, Any]:
    packages = ("numpy", "scipy", "torch")
    return {
        "data": findings.data,
        "samples": len(findings.labels),
        "seed": findings.seed,
        "norm": "L-infinity",
        "epsilon": "in input units; inputs are in [0, 1]",
        "versions": {
            "glr_dist": __version__,
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in packages},
        },
    }


def _model(findings: Findings, members: Sequence[int]) -> dict[str, Any]:
    cards = [findings.models[index] for index in members]
    networks = [
        {"seed": card.seed, "checkpoint": card.checkpoint, "sha256": card.sha256, "clean": float(card.right.mean())}
        for card in cards
    ]
    clean = accuracy([card.right for card in cards])
    return {"model": cards[0].name, **_traits(cards), "clean": clean, "networks": networks}


def _traits(cards: Sequence[ModelCard], names: Sequence[str] = _TRAITS) -> dict[str, str]:
    """What the networks are; where those of one name differ, each of their values."""
    return {name: " / ".join(dict.fromkeys(str(getattr(card, name)) for card in cards)) for name in names}


def _surrogate(findings: Findings, index: int) -> dict[str, Any]:
    card = findings.surrogates[index]
    own = in_order(outcome for outcome in findings.surrogate_attacks if outcome.model == index)
    return {
        "surrogate": label(findings.surrogates, index),
        **_traits([card]),
        "seed": card.seed,
        "checkpoint": card.checkpoint,
        "sha256": card.sha256,
        "clean": accuracy([card.right]),
        "attacked": [
            {
                "attack": outcome.attack.name,
                "settings": settings_text(outcome.attack),
                "epsilon": outcome.attack.epsilon,
                **(accuracy([outcome.right]) or {}),
            }
            for outcome in own
        ],
    }


def _attacks(findings: Findings, members: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of one name's networks: clean, then each source and size."""
    cards = [findings.models[index] for index in members]
    traits = {"model": cards[0].name, **_traits(cards, ("method", "loss", "activation"))}
    clean = {
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
    cells = sorted_by_key(of_networks(findings.attacks, members), lambda o: (source(o), o.attack.epsilon))
    return [{**traits, **clean}] + [{**traits, **_attack(findings, outcomes)} for outcomes in cells.values()]


def _attack(findings: Findings, outcomes: Sequence[AttackOutcome]) -> dict[str, Any]:
    """One source and size, over the networks of one name."""
    first = outcomes[0]
    restarts = "draws" if first.attack.name == "random-signs" else "restarts"
    return {
        "attack": first.attack.name,
        "settings": settings_text(first.attack),
        "epsilon": first.attack.epsilon,
        "knowledge": first.knowledge,
        "library": " / ".join(dict.fromkeys(outcome.library for outcome in outcomes)),
        "restarts": setting(first.attack, restarts) if restarts in SETTINGS[first.attack.name] else 1,
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
        and (source(own).attack, source(own).settings) == (source(outcome).attack, source(outcome).settings)
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
    """The share of samples on which ``exact`` ran out of time; None for the attacks."""
    shares = [float(outcome.undecided.mean()) for outcome in outcomes if outcome.undecided is not None]
    return float(np.mean(shares)) if shares else None


def _lines(findings: Findings, members: Sequence[int]) -> list[dict[str, Any]]:
    """Accuracy by attack, knowledge and size, over the surrogates and settings."""
    cells = sorted_by_key(
        of_networks(findings.attacks, members), lambda o: (o.attack.name, o.knowledge, o.attack.epsilon)
    )
    return [
        {
            "model": findings.models[members[0]].name,
            "attack": attack,
            "knowledge": knowledge,
            "epsilon": epsilon,
            "sources": len({source(outcome) for outcome in outcomes}),
            **(accuracy(list(worst(outcomes).values())) or {}),
        }
        for (attack, knowledge, epsilon), outcomes in cells.items()
    ]


def _worst(findings: Findings, members: Sequence[int]) -> list[dict[str, Any]]:
    """The worst case and the exact answer, by size."""
    mine = of_networks(findings.attacks, members)
    entries = []
    for epsilon in sorted({outcome.attack.epsilon for outcome in mine}):
        exact = [o for o in mine if o.attack.epsilon == epsilon and o.knowledge == "exact"]
        entries.append(
            {
                "model": findings.models[members[0]].name,
                "epsilon": epsilon,
                "worst": accuracy(list(worst_case(findings, members, epsilon).values())),
                "exact": accuracy(list(worst(exact).values())),
                "undecided": _undecided(exact),
            }
        )
    return entries


def _corruptions(findings: Findings, members: Sequence[int]) -> list[dict[str, Any]]:
    """Accuracy by corruption: by severity, their mean, and last the mean over all corruptions."""
    mine = [outcome for outcome in findings.corruptions if outcome.model in members]
    if not mine:
        return []
    mine.sort(key=lambda o: (o.corruption, o.severity, o.model))
    name, by_corruption = findings.models[members[0]].name, sorted_by_key(mine, lambda o: o.corruption)
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


def _rounded(thing: Any) -> Any:
    """Floats to a sensible number of digits, in everything that JSON can hold."""
    if isinstance(thing, dict):
        return {key: _rounded(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_rounded(value) for value in thing]
    return float(f"{thing:.{_DIGITS}g}") if isinstance(thing, float) else thing
