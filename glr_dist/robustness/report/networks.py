"""The networks of a report and the surrogates of its transfers: who they are, and how good without an attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glr_dist.robustness.findings import AttackOutcome, Findings, ModelCard
from glr_dist.robustness.report.intervals import accuracy
from glr_dist.robustness.report.tally import groups, label, of_networks

_TRAITS = ("method", "loss", "activation", "architecture", "noise", "votes")


def model_entries(findings: Findings) -> list[dict[str, Any]]:
    """An entry for each name: its networks, one a seed, and their accuracy without an attack."""
    return [_model([findings.models[index] for index in members]) for members in groups(findings.models).values()]


def _model(cards: Sequence[ModelCard]) -> dict[str, Any]:
    networks = [{**_identity(card), "clean": float(card.right.mean())} for card in cards]
    clean = accuracy([card.right for card in cards])
    return {"model": cards[0].name, **traits(cards), "clean": clean, "networks": networks}


def surrogate_entries(findings: Findings) -> list[dict[str, Any]]:
    """An entry for each surrogate: its accuracy without an attack and on the samples that were made on it."""
    return [
        {
            "surrogate": label(findings.surrogates, index),
            **traits([card]),
            **_identity(card),
            "clean": accuracy([card.right]),
            "attacked": [_attacked(outcome) for outcome in of_networks(findings.surrogate_attacks, [index])],
        }
        for index, card in enumerate(findings.surrogates)
    ]


def _identity(card: ModelCard) -> dict[str, Any]:
    return {"seed": card.seed, "checkpoint": card.checkpoint, "sha256": card.sha256}


def _attacked(outcome: AttackOutcome) -> dict[str, Any]:
    about = outcome.attack
    found = accuracy([outcome.right]) or {}
    return {"attack": about.name, "settings": about.words, "epsilon": about.epsilon, **found}


def traits(cards: Sequence[ModelCard], names: Sequence[str] = _TRAITS) -> dict[str, str]:
    """What the networks are; where those of one name differ, each of their values."""
    return {name: " / ".join(dict.fromkeys(str(getattr(card, name)) for card in cards)) for name in names}
