"""What an evaluation actor does: networks under test look at clean, attacked and corrupted samples, chunk by chunk.

The actors are in `glr_dist.robustness.actors`; everything here also works without them.

M networks (for `Corrupted`: severities x networks), B samples of a chunk.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glr_dist.attacks.attack import Attack
from glr_dist.corruptions.corruption import SEVERITIES, corrupt
from glr_dist.data.source import DataSource
from glr_dist.robustness.findings import Mask
from glr_dist.robustness.generation import Order
from glr_dist.robustness.sample_set import AdversarialBatch, SampleSet
from glr_dist.robustness.selection import Chunk, Indices, chunk_seed, rows_at
from glr_dist.robustness.subjects import Subject, logits_of, predict


@dataclass(frozen=True)
class Clean:
    """The samples as they are."""


@dataclass(frozen=True)
class Stored:
    """The samples of a stored set, by its number."""

    number: int


@dataclass(frozen=True)
class Direct:
    """An attack on one network itself, by its number."""

    subject: int
    attack: Attack


@dataclass(frozen=True)
class Corrupted:
    """One corruption, in all severities."""

    name: str


Line = Clean | Order | Stored | Direct | Corrupted  # an Order's samples come from a generator


@dataclass(frozen=True)
class Job:
    """One chunk of one line: a function of the evaluation and of nothing else, so it may run twice or elsewhere."""

    number: int
    line: Line
    chunk: Chunk


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What networks said of a chunk.

    Attributes:
        classes: [M, B].
        right: [M, B] the right class, under ``exact`` proved so.
        undecided: [B] ``exact`` ran out of time.
        before: [B] what the surrogate of attacked samples says of the clean ones.
        after: [B] and what it says of the attacked ones.
        without_gradient: samples whose input gradient was zero or not finite.
        queries: forward passes per sample, mean.
        generating: seconds of making the samples.
        examining: seconds of everything else.
        seen: [k, ...] attacked samples for people to look at, in the chunk's order.
    """

    classes: NDArray[np.int64]
    right: Mask
    undecided: Mask | None = None
    before: NDArray[np.int64] | None = None
    after: NDArray[np.int64] | None = None
    without_gradient: int = 0
    queries: float = 0.0
    generating: float = 0.0
    examining: float = 0.0
    seen: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Examiner:
    """Holds the networks under test.

    Attributes:
        subjects: the networks.
        data: what they see.
        split: and of which split.
        sets: stored adversarial samples.
        votes: noisy passes per prediction; 0: none.
        seed: of everything random.
        shown: positions in the split of the samples for people to look at.
    """

    subjects: Sequence[Subject]
    data: DataSource = field(repr=False)
    split: str
    sets: Sequence[SampleSet] = ()
    votes: int = 0
    seed: int = 0
    shown: Indices = field(default_factory=lambda: np.empty(0, np.int64))

    def consume(self, job: Job, batch: AdversarialBatch | None) -> Answer:
        """The answer to a job; ``batch``: the samples that a generator made for it."""
        started = time.perf_counter()
        line, chunk = job.line, job.chunk
        if isinstance(line, Stored):
            batch = self.sets[line.number].batch(chunk.indices)
        if batch is not None:
            answer = self._attacked(chunk, batch)
        else:
            x, labels = rows_at(self.data, self.split, chunk.indices)
            if isinstance(line, Direct):
                answer = self._direct(line, chunk, x, labels)
            elif isinstance(line, Corrupted):
                answer = self._corrupted(line, chunk, x, labels)
            else:
                assert isinstance(line, Clean), line
                answer = self._told(self._classes(x, chunk), labels)
        return replace(answer, examining=time.perf_counter() - started)

    def _classes(self, x: Tensor, chunk: Chunk) -> NDArray[np.int64]:
        """What each network tells: [M, B]."""
        return np.stack([self._predict(subject, x, chunk) for subject in self.subjects])

    def _predict(self, subject: Subject, x: Tensor, chunk: Chunk) -> NDArray[np.int64]:
        return predict(subject, x, votes=self.votes, seed=self.seed, indices=chunk.indices)

    def _told(self, classes: NDArray[np.int64], labels: Tensor) -> Answer:
        return Answer(classes=classes, right=classes == labels.numpy())

    def _attacked(self, chunk: Chunk, batch: AdversarialBatch) -> Answer:
        x = torch.from_numpy(batch.x.copy())  # arrays from the object store are read-only
        classes = self._classes(x, chunk)
        return Answer(
            classes=classes,
            right=classes == batch.labels,
            before=batch.before,
            after=batch.after,
            without_gradient=batch.without_gradient,
            queries=batch.queries,
            generating=batch.seconds,
            seen=self._seen(x, chunk),
        )

    def _direct(self, line: Direct, chunk: Chunk, x: Tensor, labels: Tensor) -> Answer:
        subject = self.subjects[line.subject]
        attack_seed, noise_seed = chunk_seed(self.seed, line.attack.seed_text(), chunk).spawn(2)
        passes = min(self.votes, 1) if line.attack.noise == "single" else self.votes
        logits = logits_of(subject, votes=passes, seed=noise_seed)
        attacked = line.attack.run(logits, x, labels, attack_seed)
        classes = self._predict(subject, attacked.x, chunk)[None]
        return Answer(
            classes=classes,
            right=classes == labels.numpy() if attacked.safe is None else attacked.safe.numpy()[None],
            undecided=None if attacked.undecided is None else attacked.undecided.numpy(),
            without_gradient=attacked.without_gradient,
            queries=attacked.queries,
            seen=self._seen(attacked.x, chunk),
        )

    def _corrupted(self, line: Corrupted, chunk: Chunk, x: Tensor, labels: Tensor) -> Answer:
        classes = [
            self._classes(corrupt(line.name, x, severity, seed=self.seed, indices=chunk.indices), chunk)
            for severity in SEVERITIES
        ]
        return self._told(np.concatenate(classes), labels)

    def _seen(self, x: Tensor, chunk: Chunk) -> NDArray[np.float32]:
        seen: NDArray[np.float32] = x.numpy()[np.isin(chunk.indices, self.shown)]
        return seen.copy()
