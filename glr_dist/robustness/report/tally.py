"""Findings put in order before they are counted: networks by group, outcomes by source, the worst of several attacks.

An outcome's *source* is all of it but the network and the size: the attack, the settings that matter to it, what it
knows of the network, and the surrogate. Worst means per sample: right only where right under each of the outcomes.

n: samples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from glr_dist.attacks.attack import ATTACKS
from glr_dist.robustness.findings import AttackOutcome, Findings, Mask, ModelCard

Thing = TypeVar("Thing")
Key = TypeVar("Key", bound=Hashable)


def source(outcome: AttackOutcome) -> tuple[str, tuple[tuple[str, Any], ...], str, int | None]:
    """The source of an outcome's adversaries: attack, its own settings, knowledge, and surrogate's index for transfer."""
    return outcome.attack.name, tuple(outcome.attack.settings().items()), outcome.knowledge, outcome.surrogate


def sorted_by_key(things: Iterable[Thing], key: Callable[[Thing], Key]) -> dict[Key, list[Thing]]:
    """The things under their keys, in the order in which the keys first appear."""
    found: dict[Key, list[Thing]] = {}
    for thing in things:
        found.setdefault(key(thing), []).append(thing)
    return found


def groups(cards: Sequence[ModelCard]) -> dict[str, list[int]]:
    """The networks of each name, as indices."""
    return sorted_by_key(range(len(cards)), lambda index: cards[index].name)


def in_order(outcomes: Iterable[AttackOutcome]) -> list[AttackOutcome]:
    """Outcomes in an order that does not depend on who finished first: attack, source, size, network."""
    attacks = list(ATTACKS)

    def place(outcome: AttackOutcome) -> tuple[Any, ...]:
        attack, settings, knowledge, surrogate = source(outcome)
        where = (attacks.index(attack), knowledge, -1 if surrogate is None else surrogate, settings)
        return (*where, outcome.attack.epsilon, outcome.model)

    return sorted(outcomes, key=place)


def kinds_of(lines: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The attacks of some lines of the report with what they know, in the order of ATTACKS."""
    attacks = list(ATTACKS)
    kinds = {(line["attack"], line["knowledge"]) for line in lines}
    return sorted(kinds, key=lambda kind: (attacks.index(kind[0]), kind[1]))


def of_networks(outcomes: Iterable[AttackOutcome], members: Sequence[int]) -> list[AttackOutcome]:
    """The outcomes of some networks, in order."""
    return in_order(outcome for outcome in outcomes if outcome.model in members)


def worst(outcomes: Iterable[AttackOutcome]) -> dict[int, Mask]:
    """By network, in order: [n] right under each of its outcomes."""
    masks: dict[int, Mask] = {}
    for outcome in outcomes:
        masks[outcome.model] = masks.get(outcome.model, outcome.right) & outcome.right
    return dict(sorted(masks.items()))


def worst_case(findings: Findings, members: Sequence[int], epsilon: float) -> dict[int, Mask]:
    """By network: [n] right without an attack and under every attack of this size (``exact`` is no attack).

    The clean sample is one of the ball's, so a sample that is wrong without an attack never counts as right.
    """
    met = [o for o in of_networks(findings.attacks, members) if o.attack.epsilon == epsilon]
    masks = worst(outcome for outcome in met if outcome.knowledge != "exact")
    return {model: mask & findings.models[model].right for model, mask in masks.items()}


@dataclass(frozen=True)
class Proof:
    """What is proved of one network at one size, by all that tried: bool [n] each."""

    safe: Mask
    bounded: Mask  # by intervals alone
    undecided: Mask

    @property
    def shares(self) -> dict[str, float]:
        """Of all samples: proved by intervals, proved by the program alone, broken, undecided; they add up to 1."""
        masks = {
            "intervals": self.bounded,
            "program": self.safe & ~self.bounded,
            "broken": ~self.safe & ~self.undecided,
            "undecided": self.undecided,
        }
        return {name: float(mask.mean()) for name, mask in masks.items()}


def proofs(outcomes: Iterable[AttackOutcome]) -> dict[int, Proof]:
    """By network, in order: what its proofs of one size say together; one that decides a sample is enough."""
    found: dict[int, Proof] = {}
    for outcome in outcomes:
        if outcome.knowledge != "exact":
            continue
        none = np.zeros_like(outcome.right)
        undecided = none if outcome.undecided is None else outcome.undecided
        new = Proof(outcome.right, none if outcome.bounded is None else outcome.bounded, undecided)
        old = found.get(outcome.model, Proof(none, none, ~none))
        found[outcome.model] = Proof(
            old.safe | new.safe, old.bounded | new.bounded, old.undecided & new.undecided & ~(old.safe | new.safe)
        )
    return dict(sorted(found.items()))


def label(cards: Sequence[ModelCard], index: int) -> str:
    """A network's name; with its seed, then its place, where others share it."""
    card = cards[index]
    same_name = [other for other in cards if other.name == card.name]
    if len(same_name) == 1:
        return card.name
    if len([other for other in same_name if other.seed == card.seed]) == 1:
        return f"{card.name} (seed {card.seed})"
    return f"{card.name} (number {index + 1})"
