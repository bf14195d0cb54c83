"""What an evaluation finds, sample by sample, before anything is averaged: the data between actors and the report.

n: the selected samples, in the selection's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glr_dist.attacks.attack import Attack

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a network is: under test, or a surrogate.

    Attributes:
        name: the group it belongs to; networks that differ in their seed alone share one.
        checkpoint: its folder.
        sha256: of its parameters.
        method, loss: how it was trained.
        activation: of its hidden units.
        architecture: one line, such as ``mlp 784-50-10``.
        seed: of its run.
        noise: family and scale of the training noise, such as ``gaussian 0.5``, or "" for none.
    """

    name: str
    checkpoint: str
    sha256: str
    method: str
    loss: str
    activation: str
    architecture: str
    seed: int
    noise: str


@dataclass(frozen=True, kw_only=True)
class ModelCard(Identity):
    """What a report says of a network.

    Attributes:
        votes: noisy passes per prediction; 0: predicts without noise.
        right: [n] right without any attack.
    """

    votes: int
    right: Mask


@dataclass(frozen=True, kw_only=True)
class AttackOutcome:
    """One network under one attack of one size.

    Attributes:
        model: index in Findings.models.
        attack: the attack.
        knowledge: none, transfer, white-box, labels, scores or exact.
        surrogate: index in Findings.surrogates, for transfer.
        library: who made the samples, with the version, such as ``glr_dist 0.1.0``.
        right: [n] still right on every candidate that the attack tried (for a proof: proved safe).
        undecided: [n] of a proof: neither proved nor broken.
        bounded: [n] of a proof: proved by intervals alone.
        without_gradient, queries: as in `Attacked`.
        seconds: of work, all actors added.
    """

    model: int
    attack: Attack
    knowledge: str
    surrogate: int | None = None
    library: str
    right: Mask
    undecided: Mask | None = None
    bounded: Mask | None = None
    without_gradient: int = 0
    queries: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CorruptionOutcome:
    """One network on one corruption of one severity."""

    model: int
    corruption: str
    severity: int
    right: Mask


@dataclass(frozen=True, kw_only=True)
class Specimens:
    """Samples to look at, chosen by seed: clean, attacked, and what the network says of both.

    Attributes:
        outcome: index in Findings.attacks.
        clean: [m, C, H, W] or [m, D] in [0, 1].
        adversarial: the same shape.
        labels: [m].
        before, after: [m] classes without the attack and under it.
    """

    outcome: int
    clean: NDArray[np.float32]
    adversarial: NDArray[np.float32]
    labels: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that one evaluation found.

    Attributes:
        data: ``name``, ``split``, ``fingerprint``, ``classes`` (their number), and how the samples were selected.
        indices: [n] positions of the samples in the split's stored order.
        labels: [n].
        models: the networks under test.
        surrogates: the networks that transferred attacks were made on; ``right`` is their own accuracy on the samples.
        attacks: every network x attack x size (x surrogate).
        surrogate_attacks: the surrogates under the same samples: outcome.model is an index in ``surrogates``.
        corruptions: every network x corruption x severity.
        specimens: samples to look at.
        seed: of everything random in the evaluation.
    """

    data: dict[str, Any]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    models: Sequence[ModelCard]
    surrogates: Sequence[ModelCard] = ()
    attacks: Sequence[AttackOutcome] = ()
    surrogate_attacks: Sequence[AttackOutcome] = ()
    corruptions: Sequence[CorruptionOutcome] = ()
    specimens: Sequence[Specimens] = field(default_factory=tuple)
    seed: int = 0
