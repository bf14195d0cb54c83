"""The work of an evaluation: one chunk of one probe is a job; who does it, and who dies on the way, changes nothing.

Samples that one worker makes travel to the one that examines or writes them, and never through the driver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from glr_dist.robustness.bench import Answer, Bench
from glr_dist.robustness.probes import Probe
from glr_dist.robustness.sample_set import AdversarialBatch, write_chunk
from glr_dist.robustness.selection import Chunk
from glr_dist.store.storage import Storage
from glr_dist.workers.actor import actor_starter
from glr_dist.workers.pool import Call, LocalPool, PoolPolicy
from glr_dist.workers.ray_pool import RayPool
from glr_dist.workers.relay import relay

Show = Callable[[int, int, str], None]  # jobs done, of how many, what the last one was


class Examiner:
    """What a worker does with its copy of the bench and of the probes, which calls know by their numbers."""

    def __init__(self, bench: Bench, probes: Sequence[Probe]) -> None:
        self._bench, self._probes = bench, probes

    def samples(self, probe: int, chunk: Chunk) -> AdversarialBatch | None:
        """A chunk's adversarial samples."""
        return self._probes[probe].samples(self._bench, chunk)

    def examine(self, probe: int, chunk: Chunk, made: AdversarialBatch | None = None) -> Answer:
        """What networks say of a chunk; ``made``: its samples, if somebody else made them."""
        started = time.perf_counter()
        made = self.samples(probe, chunk) if made is None else made
        answer = self._probes[probe].examine(self._bench, chunk, made)
        return replace(answer, examining=time.perf_counter() - started)

    def write(self, uri: str, number: int, made: AdversarialBatch) -> tuple[dict[str, Any], AdversarialBatch]:
        """Write a chunk's samples to a set's folder: what meta.json says of the file, and the batch without them."""
        return write_chunk(Storage.at(uri), number, made), replace(made, x=made.x[:0].copy())


@dataclass(frozen=True)
class Staff:
    """Who does the work.

    Attributes:
        makers: actors that make samples, if there are any to be made.
        takers: actors that examine or write them; 0: all happens in this process, without Ray.
        policy: how patient their pools are with them.
        cpus: reserved for each maker and for each taker; those who mostly wait for others need none.
    """

    makers: int
    takers: int
    policy: PoolPolicy
    cpus: tuple[int, int] = (0, 1)


def work(
    bench: Bench, probes: Sequence[Probe], calls: Sequence[Call], staff: Staff, show: Show
) -> list[tuple[Call, Any]]:
    """Every call of an Examiner's verbs with its answer, in their order.

    Raises:
        UserError: one that a call raised.
        RuntimeError: when workers die faster than they answer.
    """
    answers: dict[Any, Any] = {}
    for call, answer in _as_they_come(bench, probes, calls, staff):
        answers[call.key] = answer
        made = call if call.source is None else call.source
        show(len(answers), len(calls), probes[made.arguments[0]].words)
    return [(call, answers[call.key]) for call in calls]


def _as_they_come(
    bench: Bench, probes: Sequence[Probe], calls: Sequence[Call], staff: Staff
) -> Iterator[tuple[Call, Any]]:
    if not staff.takers:
        alone = Examiner(bench, probes)
        yield from relay(calls, LocalPool(alone, threads=1), LocalPool(alone, threads=1))
        return
    import ray

    copies = [ray.put(bench), ray.put(probes)]
    making = actor_starter(Examiner, copies, cpus=staff.cpus[0], keeps=True)
    taking = actor_starter(Examiner, copies, cpus=staff.cpus[1])
    to_make = sum(call.source is not None for call in calls)
    with (
        closing(RayPool(making, min(staff.makers, to_make), staff.policy)) as makers,
        closing(RayPool(taking, min(staff.takers, len(calls)), staff.policy)) as takers,
    ):
        yield from relay(calls, makers, takers)
