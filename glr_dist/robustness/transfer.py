"""Probes whose samples are made on one network, the surrogate, and seen by all: made on the way, or stored before.

B samples of a chunk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from glr_dist.attacks.attack import Attack
from glr_dist.robustness.bench import Answer, Bench
from glr_dist.robustness.findings import AttackOutcome
from glr_dist.robustness.probes import Probe, outcomes_of
from glr_dist.robustness.sample_set import AdversarialBatch
from glr_dist.robustness.selection import Chunk, chunk_seed
from glr_dist.robustness.subjects import predict


class _OnSurrogate(Probe):
    """Samples that were made on a surrogate, of which its maker and the attack are known."""

    def attack_of(self, bench: Bench) -> Attack:
        """The attack that made them."""
        raise NotImplementedError

    def examine(self, bench: Bench, chunk: Chunk, made: AdversarialBatch | None) -> Answer:
        """Each network's classes."""
        assert made is not None
        x = torch.from_numpy(made.x.copy())  # arrays from the object store are read-only
        classes = bench.told_by_all(x, chunk)
        return Answer(
            labels=made.labels,
            classes=classes,
            right=classes == made.labels,
            right_before=made.before == made.labels,
            right_after=made.after == made.labels,
            without_gradient=made.without_gradient,
            queries=made.queries,
            generating=made.seconds,
            seen=bench.seen(x, chunk),
        )

    def outcomes(self, bench: Bench, answer: Answer, number: Mapping[str, int]) -> Iterator[AttackOutcome]:
        """Those of all networks."""
        models = range(len(bench.subjects))
        yield from outcomes_of(bench, answer, self.attack_of(bench), models, self.maker(bench), number)

    def on_surrogate(self, bench: Bench, answer: Answer, number: Mapping[str, int]) -> Iterator[AttackOutcome]:
        """On its own surrogate an attack is white-box."""
        attack, maker = self.attack_of(bench), self.maker(bench)
        assert maker is not None
        assert answer.right_after is not None
        yield AttackOutcome(
            model=number[maker["sha256"]],
            attack=attack,
            knowledge=attack.knows(of_another=False),
            library=attack.library,
            right=answer.right_after,
            without_gradient=answer.without_gradient,
            queries=answer.queries,
            seconds=answer.generating,
        )


@dataclass(frozen=True)
class Transferred(_OnSurrogate):
    """An attack on a surrogate, by its number."""

    apart = True

    surrogate: int
    attack: Attack

    @property
    def words(self) -> str:
        """The attack."""
        return self.attack.title

    def attack_of(self, bench: Bench) -> Attack:
        """The attack that makes them."""
        return self.attack

    def maker(self, bench: Bench) -> dict[str, Any]:
        """The surrogate."""
        return bench.surrogates[self.surrogate].about

    def samples(self, bench: Bench, chunk: Chunk) -> AdversarialBatch:
        """Attack the surrogate, and ask it for its classes before and after."""
        started = time.perf_counter()
        x, labels = bench.rows(chunk)
        surrogate = bench.surrogates[self.surrogate]
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
class Stored(_OnSurrogate):
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
