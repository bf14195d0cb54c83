"""What is measured, and what is said of it: the networks and samples of an evaluation, and the answer to one chunk.

M networks (for a corruption: severities x networks), B samples of a chunk, n of all chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glr_dist.attacks.attack import Attack
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.robustness.findings import Mask
from glr_dist.robustness.sample_set import SampleSet
from glr_dist.robustness.selection import Chunk, Indices, rows_at
from glr_dist.robustness.subjects import Subject, predict

Classes = NDArray[np.int64]

_PROBE = 10  # samples at which networks are asked whether an attack can be tried


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All that probes work on; every actor has a copy.

    Attributes:
        subjects: the networks under test.
        surrogates: those that samples are made on.
        data, split: what they see.
        sets: stored adversarial samples.
        votes: noisy passes per prediction of a network under test; 0: none.
        seed: of everything random.
        shown: positions in the split of the samples for people to look at.
    """

    subjects: Sequence[Subject] = ()
    surrogates: Sequence[Subject] = ()
    data: DataSource = field(repr=False)
    split: str
    sets: Sequence[SampleSet] = ()
    votes: int = 0
    seed: int = 0
    shown: Indices = field(default_factory=lambda: np.empty(0, np.int64))

    def rows(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """A chunk's clean samples [B, ...] and labels [B], fresh."""
        return rows_at(self.data, self.split, chunk.indices)

    def told(self, subject: Subject, x: Tensor, chunk: Chunk) -> Classes:
        """What a network under test tells of a chunk's samples as they are now, [B, ...]: [B]."""
        return predict(subject, x, votes=self.votes, seed=self.seed, indices=chunk.indices)

    def told_by_all(self, x: Tensor, chunk: Chunk) -> Classes:
        """What each network under test tells: [M, B]."""
        return np.stack([self.told(subject, x, chunk) for subject in self.subjects])

    def seen(self, x: Tensor, chunk: Chunk) -> NDArray[np.float32]:
        """Those of a chunk's samples that are for people to look at."""
        found: NDArray[np.float32] = x.numpy()[np.isin(chunk.indices, self.shown)]
        return found.copy()

    def attackable(
        self, attack: Attack, networks: Sequence[Subject], indices: Indices, say: Callable[[str], None]
    ) -> list[int]:
        """The networks that an attack can be tried on, as their numbers; ``say`` is told which are left out.

        Raises:
            UserError: naming the first that it can't be tried on, where it leaves none out or none would be left.
        """
        x, labels = rows_at(self.data, self.split, indices[:_PROBE])
        reasons = {}
        for number, network in enumerate(networks):
            try:
                attack.refuse(network.model, x, labels)
            except UserError as error:
                reasons[number] = f"{network.checkpoint}: {error}"
        if reasons and not (attack.spares and len(reasons) < len(networks)):
            raise UserError(next(iter(reasons.values())))
        for reason in reasons.values():
            say(f"note: left out of {attack.name}: {reason}")
        return [number for number in range(len(networks)) if number not in reasons]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What networks said of a chunk, or of all chunks.

    Attributes:
        labels: [B].
        classes: [M, B].
        right: [M, B] the right class; of proofs, proved so.
        undecided: [B] neither proved nor broken.
        bounded: [B] proved by intervals alone.
        right_before, right_after: [B] whether the surrogate of attacked samples gets them right, clean and attacked.
        without_gradient, queries: as in `Attacked`.
        generating: seconds of making the samples.
        examining: seconds of everything else.
        seen: [k, ...] attacked samples for people to look at, in the chunk's order.
    """

    labels: Classes
    classes: Classes
    right: Mask
    undecided: Mask | None = None
    bounded: Mask | None = None
    right_before: Mask | None = None
    right_after: Mask | None = None
    without_gradient: int = 0
    queries: float = 0.0
    generating: float = 0.0
    examining: float = 0.0
    seen: NDArray[np.float32] | None = None


def joined(parts: Sequence[Answer]) -> Answer:
    """The answers to the chunks of one probe, in order, as one."""

    def along(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values, axis=values[0].ndim - 1 if name != "seen" else 0)

    arrays = ("labels", "classes", "right", "undecided", "bounded", "right_before", "right_after", "seen")
    return Answer(
        **{name: along(name) for name in arrays},
        without_gradient=sum(part.without_gradient for part in parts),
        queries=float(np.average([part.queries for part in parts], weights=[len(part.labels) for part in parts])),
        generating=sum(part.generating for part in parts),
        examining=sum(part.examining for part in parts),
    )
