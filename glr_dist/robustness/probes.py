"""What networks are put to: each kind of probe makes its samples, has them looked at, and tells what was found.

    Clean         the samples as they are
    Direct        an attack on one network itself, or a proof about it
    Corrupted     one corruption in all severities

Those whose samples are made on a surrogate are in `transfer`. A probe works on one chunk at a time: a function of (bench,
chunk) alone, so it may run twice or elsewhere.

B samples of a chunk, n of all chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from glr_dist.attacks.attack import Attack
from glr_dist.corruptions.corruption import SEVERITIES, corrupt
from glr_dist.robustness.bench import Answer, Bench
from glr_dist.robustness.findings import AttackOutcome, CorruptionOutcome
from glr_dist.robustness.sample_set import AdversarialBatch
from glr_dist.robustness.selection import CHUNK, Chunk, chunk_seed
from glr_dist.robustness.subjects import logits_of


@dataclass(frozen=True)
class Probe:
    """One thing that networks are put to; this one makes no samples and finds nothing.

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

    def maker(self, bench: Bench) -> dict[str, Any] | None:
        """Who the network is that its samples are made on, if it is a surrogate."""
        return None

    def samples(self, bench: Bench, chunk: Chunk) -> AdversarialBatch | None:
        """Adversarial samples, if they are made before anybody looks at them."""
        return None

    def examine(self, bench: Bench, chunk: Chunk, made: AdversarialBatch | None) -> Answer:
        """Have networks look at a chunk.

        Args:
            bench: the networks.
            chunk: which samples.
            made: what `samples` made of them.
        """
        raise NotImplementedError

    def recalled(self, bench: Bench, answer: Answer) -> Answer:
        """An answer to all chunks with what was counted when their samples were made, long before."""
        return answer

    def outcomes(self, bench: Bench, answer: Answer, number: Mapping[str, int]) -> Iterator[AttackOutcome]:
        """What an attack did to networks under test, in the order of the answer's rows.

        Args:
            bench: the networks.
            answer: to all chunks.
            number: of each surrogate in the findings, by the SHA-256 of its parameters.
        """
        yield from ()

    def on_surrogate(self, bench: Bench, answer: Answer, number: Mapping[str, int]) -> Iterator[AttackOutcome]:
        """And what to the surrogate that it was made on."""
        yield from ()

    def corrupted(self, bench: Bench, answer: Answer) -> Iterator[CorruptionOutcome]:
        """And what a corruption did."""
        yield from ()


@dataclass(frozen=True)
class Clean(Probe):
    """The samples as they are."""

    def examine(self, bench: Bench, chunk: Chunk, made: AdversarialBatch | None) -> Answer:
        """Each network's classes."""
        x, labels = bench.rows(chunk)
        classes = bench.told_by_all(x, chunk)
        return Answer(labels=labels.numpy(), classes=classes, right=classes == labels.numpy())


@dataclass(frozen=True)
class Direct(Probe):
    """An attack on one network itself, by its number, or a proof about it."""

    subject: int
    attack: Attack

    @property
    def chunk(self) -> int:
        """Samples of a chunk."""
        return self.attack.chunk

    @property
    def words(self) -> str:
        """The attack."""
        return self.attack.title

    def examine(self, bench: Bench, chunk: Chunk, made: AdversarialBatch | None) -> Answer:
        """Attack the network, and ask it for its class; where there are proofs, right is what is proved."""
        x, labels = bench.rows(chunk)
        subject = bench.subjects[self.subject]
        attack_seed, noise_seed = chunk_seed(bench.seed, self.attack.seed_text(), chunk).spawn(2)
        votes = min(bench.votes, 1) if self.attack.noise == "single" else bench.votes
        found = self.attack.run(logits_of(subject, votes=votes, seed=noise_seed), x, labels, attack_seed)
        classes = bench.told(subject, found.x, chunk)[None]
        return Answer(
            labels=labels.numpy(),
            classes=classes,
            right=classes == labels.numpy() if found.safe is None else found.safe.numpy()[None],
            undecided=None if found.undecided is None else found.undecided.numpy(),
            without_gradient=found.without_gradient,
            queries=found.queries,
            seen=bench.seen(found.x, chunk),
        )

    def outcomes(self, bench: Bench, answer: Answer, number: Mapping[str, int]) -> Iterator[AttackOutcome]:
        """That of the one network."""
        yield from outcomes_of(bench, answer, self.attack, [self.subject], None, number)


@dataclass(frozen=True)
class Corrupted(Probe):
    """One corruption, in all severities."""

    name: str

    @property
    def words(self) -> str:
        """What it is, in a word or two."""
        return self.name

    def examine(self, bench: Bench, chunk: Chunk, made: AdversarialBatch | None) -> Answer:
        """Each network's classes, severity by severity."""
        x, labels = bench.rows(chunk)
        moved = (corrupt(self.name, x, severity, seed=bench.seed, indices=chunk.indices) for severity in SEVERITIES)
        classes = np.concatenate([bench.told_by_all(images, chunk) for images in moved])
        return Answer(labels=labels.numpy(), classes=classes, right=classes == labels.numpy())

    def corrupted(self, bench: Bench, answer: Answer) -> Iterator[CorruptionOutcome]:
        """Those of all networks in all severities."""
        models = len(bench.subjects)
        for row, right in enumerate(answer.right):
            severity, model = SEVERITIES[row // models], row % models
            yield CorruptionOutcome(model=model, corruption=self.name, severity=severity, right=right)


def outcomes_of(
    bench: Bench,
    answer: Answer,
    attack: Attack,
    models: Sequence[int],
    maker: Mapping[str, Any] | None,
    number: Mapping[str, int],
) -> Iterator[AttackOutcome]:
    """What one attack did, network by network.

    Args:
        bench: the networks.
        answer: to all chunks, a row for each of the networks.
        attack: the attack.
        models: the networks, by their numbers.
        maker: who the surrogate is, if there was one.
        number: of each surrogate in the findings, by the SHA-256 of its parameters.
    """
    for model, right in zip(models, answer.right, strict=True):
        another = maker is not None and maker["sha256"] != bench.subjects[model].sha256
        knowledge = attack.knows(of_another=another)
        yield AttackOutcome(
            model=model,
            attack=attack.seen_by_another() if another else attack,
            knowledge=knowledge,
            surrogate=number[maker["sha256"]] if maker is not None and knowledge == "transfer" else None,
            library=attack.library,
            right=right,
            undecided=answer.undecided,
            without_gradient=answer.without_gradient,
            queries=answer.queries,
            seconds=answer.generating + answer.examining / len(models),
        )
