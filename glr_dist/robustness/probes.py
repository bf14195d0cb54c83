"""What networks are put to: each kind of probe makes its samples, or has them made, and has networks look at them.

    Clean         the samples as they are
    Direct        an attack on one network itself, or a proof about it
    Transferred   an attack on a surrogate, whose samples are seen by all
    Stored        the same, made before and read from a set
    Corrupted     one corruption in all severities

A probe works on one chunk at a time: a function of (bench, chunk) alone, so it may run twice or elsewhere.

B samples of a chunk, n of all chunks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch

from glr_dist.attacks.attack import Attack
from glr_dist.corruptions.corruption import SEVERITIES, corrupt
from glr_dist.robustness.bench import Answer, Bench
from glr_dist.robustness.sample_set import AdversarialBatch
from glr_dist.robustness.selection import CHUNK, Chunk, chunk_seed
from glr_dist.robustness.subjects import logits_of, predict


@dataclass(frozen=True)
class Probe:
    """One thing that networks are put to.

    Attributes:
        apart: whether other workers make its samples.
    """

    apart: ClassVar[bool] = False

    @property
    def chunk(self) -> int:
        """Samples of a chunk."""
        return CHUNK

    @property
    def words(self) -> str:
        """What it is, in a word or two, for a progress display."""
        return type(self).__name__.lower()

    def attack_of(self, bench: Bench) -> Attack | None:
        """The attack that makes its samples, if one does."""
        return None

    def maker(self, bench: Bench) -> dict[str, Any] | None:
        """Who the network is that its samples are made on, if it is a surrogate."""
        return None

    def models(self, bench: Bench) -> Sequence[int]:
        """The networks under test that it is about, by their numbers: the rows of its answers."""
        return range(len(bench.subjects))

    def samples(self, bench: Bench, chunk: Chunk) -> AdversarialBatch | None:
        """Adversarial samples, if they are made before anybody looks at them."""
        return None

    def examine(self, bench: Bench, chunk: Chunk, made: AdversarialBatch | None) -> Answer:
        """Have networks look at a chunk: at ``made``, what `samples` made of it, or at the samples as they are."""
        if made is None:
            x, truth = bench.rows(chunk)
            labels = truth.numpy()
            about: dict[str, Any] = {}
        else:
            x, labels = torch.from_numpy(made.x.copy()), made.labels  # arrays from the object store are read-only
            about = {
                "right_before": made.before == labels,
                "right_after": made.after == labels,
                "without_gradient": made.without_gradient,
                "queries": made.queries,
                "generating": made.seconds,
                "seen": bench.seen(x, chunk),
            }
        classes = bench.told_by_all(x, chunk)
        return Answer(labels=labels, classes=classes, right=classes == labels, **about)

    def recalled(self, bench: Bench, answer: Answer) -> Answer:
        """An answer to all chunks with what was counted when their samples were made, long before."""
        return answer


@dataclass(frozen=True)
class Clean(Probe):
    """The samples as they are."""


@dataclass(frozen=True)
class _Attacking(Probe):
    """An attack that is made on the way."""

    number: int  # of the network that it is made on
    attack: Attack

    @property
    def words(self) -> str:
        """The attack and its size."""
        return f"{self.attack.name} {self.attack.epsilon:g}"

    def attack_of(self, bench: Bench) -> Attack:
        """The attack."""
        return self.attack


@dataclass(frozen=True)
class Direct(_Attacking):
    """An attack on one network itself, by its number, or a proof about it."""

    @property
    def chunk(self) -> int:
        """Samples of a chunk."""
        return self.attack.chunk

    def models(self, bench: Bench) -> Sequence[int]:
        """The one network."""
        return [self.number]

    def examine(self, bench: Bench, chunk: Chunk, made: AdversarialBatch | None) -> Answer:
        """Attack the network, and ask it for its class; where there are proofs, right is what is proved."""
        x, labels = bench.rows(chunk)
        subject = bench.subjects[self.number]
        attack_seed, noise_seed = chunk_seed(bench.seed, self.attack.seed_text(), chunk).spawn(2)
        votes = min(bench.votes, 1) if self.attack.noise == "single" else bench.votes
        found = self.attack.run(logits_of(subject, votes=votes, seed=noise_seed), x, labels, attack_seed)
        classes = bench.told(subject, found.x, chunk)[None]
        return Answer(
            labels=labels.numpy(),
            classes=classes,
            right=classes == labels.numpy() if found.safe is None else found.safe.numpy()[None],
            undecided=None if found.undecided is None else found.undecided.numpy(),
            bounded=None if found.bounded is None else found.bounded.numpy(),
            without_gradient=found.without_gradient,
            queries=found.queries,
            seen=bench.seen(found.x, chunk),
        )


@dataclass(frozen=True)
class Transferred(_Attacking):
    """An attack on a surrogate, by its number."""

    apart = True

    def maker(self, bench: Bench) -> dict[str, Any]:
        """The surrogate."""
        return bench.surrogates[self.number].about

    def samples(self, bench: Bench, chunk: Chunk) -> AdversarialBatch:
        """Attack the surrogate, and ask it for its classes before and after."""
        started = time.perf_counter()
        x, labels = bench.rows(chunk)
        surrogate = bench.surrogates[self.number]
        found = self.attack.run(surrogate.model, x, labels, chunk_seed(bench.seed, self.attack.seed_text(), chunk))
        before, after = (
            predict(surrogate, images, votes=0, seed=bench.seed, indices=chunk.indices) for images in (x, found.x)
        )
        return AdversarialBatch(
            x=found.x.numpy(),
            indices=chunk.indices,
            labels=labels.numpy(),
            before=before,
            after=after,
            without_gradient=found.without_gradient,
            queries=found.queries,
            seconds=time.perf_counter() - started,
        )


@dataclass(frozen=True)
class Stored(Probe):
    """The samples of a stored set, by its number."""

    number: int

    def attack_of(self, bench: Bench) -> Attack:
        """The attack that made the set."""
        return bench.sets[self.number].attack

    def maker(self, bench: Bench) -> dict[str, Any]:
        """The network that the set was made on."""
        about: dict[str, Any] = bench.sets[self.number].meta["surrogate"]
        return about

    def samples(self, bench: Bench, chunk: Chunk) -> AdversarialBatch:
        """Read them."""
        return bench.sets[self.number].batch(chunk.indices)

    def recalled(self, bench: Bench, answer: Answer) -> Answer:
        """Of a part of a set, no fewer samples without a gradient than there are."""
        meta = bench.sets[self.number].meta
        dead = min(meta["without_gradient"], len(answer.labels))
        return replace(answer, without_gradient=dead, queries=meta["queries"])


@dataclass(frozen=True)
class Corrupted(Probe):
    """One corruption, in all severities: the rows of an answer are severities x networks."""

    name: str

    @property
    def words(self) -> str:
        """The corruption."""
        return self.name

    def examine(self, bench: Bench, chunk: Chunk, made: AdversarialBatch | None) -> Answer:
        """Each network's classes, severity by severity."""
        x, labels = bench.rows(chunk)
        moved = (corrupt(self.name, x, severity, seed=bench.seed, indices=chunk.indices) for severity in SEVERITIES)
        classes = np.concatenate([bench.told_by_all(images, chunk) for images in moved])
        return Answer(labels=labels.numpy(), classes=classes, right=classes == labels.numpy())
