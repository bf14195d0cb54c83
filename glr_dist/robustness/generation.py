"""Making adversarial samples: what a generation actor does, and what each writes to disk.

The actors are in `glr_dist.robustness.actors`; everything here also works without them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glr_dist.attacks.attack import Attack
from glr_dist.data.source import DataSource
from glr_dist.robustness.sample_set import AdversarialBatch, write_file
from glr_dist.robustness.selection import Chunk, chunk_seed, rows_at
from glr_dist.robustness.subjects import Subject, predict
from glr_dist.store.storage import Storage


@dataclass(frozen=True)
class Order:
    """Samples to be made.

    Attributes:
        surrogate: which network they are made on.
        attack: how.
    """

    surrogate: int
    attack: Attack


class Generator:
    """Holds surrogates and makes adversarial samples on them, chunk by chunk."""

    def __init__(self, surrogates: Sequence[Subject], data: DataSource, split: str, seed: int) -> None:
        self._surrogates = surrogates
        self._data = data
        self._split = split
        self._seed = seed

    def generate(self, order: Order, chunk: Chunk) -> AdversarialBatch:
        """The chunk's samples after the attack: a function of the seed, the order and the chunk alone."""
        started = time.perf_counter()
        x, labels = rows_at(self._data, self._split, chunk.indices)
        surrogate = self._surrogates[order.surrogate]
        attacked = order.attack.run(surrogate.model, x, labels, chunk_seed(self._seed, order.attack.seed_text(), chunk))
        before, after = (
            predict(surrogate, images, votes=0, seed=self._seed, indices=chunk.indices) for images in (x, attacked.x)
        )
        return AdversarialBatch(
            x=attacked.x.numpy(),
            indices=chunk.indices,
            labels=labels.numpy(),
            before=before,
            after=after,
            without_gradient=attacked.without_gradient,
            queries=attacked.queries,
            seconds=time.perf_counter() - started,
        )


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of one chunk.

    Attributes:
        file: its ``name``, ``rows`` and ``sha256``.
        fooled: samples that the surrogate got right before and gets wrong now.
        right_before: samples that it got right before.
        right_after: samples that it gets right under the attack.
        without_gradient: samples whose input gradient was zero or not finite.
        queries: forward passes, all samples added.
    """

    file: dict[str, Any]
    fooled: int
    right_before: int
    right_after: int
    without_gradient: int
    queries: float


class Writer:
    """Writes what generators make; a chunk written twice is the same file."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def consume(self, job: Any, batch: AdversarialBatch) -> Written:
        """Write a job's chunk."""
        right = batch.before == batch.labels
        still = batch.after == batch.labels
        return Written(
            file=write_file(Storage.at(self._uri), job.chunk.number, batch),
            fooled=int((right & ~still).sum()),
            right_before=int(right.sum()),
            right_after=int(still.sum()),
            without_gradient=batch.without_gradient,
            queries=batch.queries * len(right),
        )
