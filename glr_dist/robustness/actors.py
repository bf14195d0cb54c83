"""Ray actors around generators, examiners and writers.

Samples travel from a generation actor to an evaluation actor or a writer through the object store: the driver passes a
reference on and never sees them. What a dead actor was doing is done again by its successor (`max_restarts`,
`max_task_retries`); what it had made and nobody had fetched yet is lost with it, and ordered again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from glr_dist.errors import UserError
from glr_dist.robustness.crew import Consumer
from glr_dist.robustness.examination import Job
from glr_dist.robustness.generation import Generator, Order

_CALLS = 2  # at most that wait at one actor, so that none stands idle
_LOST = "lost"  # the answer of an actor that could not fetch its samples


class Worker:
    """The actor's class: one core, one generator, examiner or writer.

    References come in lists, or Ray would fetch what they refer to before the call, for the driver even. Each call brings
    the worker's own along: the successor of an actor that died starts from nothing.
    """

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self._worker: Any = None

    def generate(self, packed: list[Any], job: Job) -> list[Any]:
        """Make a job's samples; returns their reference."""
        import ray

        return [ray.put(self._unpacked(packed).generate(job.line, job.chunk))]

    def consume(self, packed: list[Any], job: Job, made: list[Any]) -> Any:
        """Answer a job, with the samples that ``made`` refers to if it needs any."""
        import ray
        from ray.exceptions import ObjectLostError

        try:
            batch = ray.get(made[0]) if made else None
        except ObjectLostError:
            return _LOST
        return self._unpacked(packed).consume(job, batch)

    def _unpacked(self, packed: list[Any]) -> Any:
        import ray

        if self._worker is None:
            self._worker = ray.get(packed[0])
        return self._worker


def _start(count: int, cpus: int) -> list[Any]:
    import ray

    start = ray.remote(num_cpus=cpus, max_restarts=-1, max_task_retries=-1)(Worker).remote
    return [start() for _ in range(count)]


@dataclass(frozen=True, eq=False)
class _Call:
    """A call that an actor has."""

    actor: Any
    job: Job
    made: list[Any] | None  # None: the call makes the samples


class RayCrew:
    """Runs jobs on actors."""

    def __init__(
        self, generator: Generator, consumer: Consumer, *, generators: int, consumers: int, cpus: tuple[int, int]
    ) -> None:
        """Start the actors.

        Args:
            generator: makes samples.
            consumer: examines or writes them.
            generators: actors that make samples.
            consumers: actors that take them.
            cpus: reserved for each generator and for each consumer.
        """
        import ray

        self._generator, self._consumer = [ray.put(generator)], [ray.put(consumer)]
        self.generators = _start(generators, cpus[0])
        self.consumers = _start(consumers, cpus[1])
        self._calls: dict[Any, _Call] = {}  # by the reference of the answer
        self._to_make: deque[Job] = deque()
        self._ready: deque[tuple[Job, list[Any]]] = deque()  # to be consumed

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
        """Every job with its answer, as they come.

        Raises:
            UserError: one that an actor raised.
        """
        import ray

        for job in jobs:
            if isinstance(job.line, Order):
                self._to_make.append(job)
            else:
                self._ready.append((job, []))
        while self._to_make or self._ready or self._calls:
            self._hand_out()
            done, _ = ray.wait(list(self._calls), num_returns=1)
            for reference in done:
                yield from self._settled(reference)

    def close(self) -> None:
        """Kill the actors."""
        import ray

        for actor in (*self.generators, *self.consumers):
            ray.kill(actor)

    def _hand_out(self) -> None:
        # samples that wait take memory: no more of them than keep everybody busy
        room = _CALLS * (len(self.consumers) + 1) - sum(bool(made) for _, made in self._ready)
        while self._to_make and room > 0 and (actor := self._free(self.generators)) is not None:
            job = self._to_make.popleft()
            self._calls[actor.generate.remote(self._generator, job)] = _Call(actor, job, None)
            room -= 1
        while self._ready and (actor := self._free(self.consumers)) is not None:
            job, made = self._ready.popleft()
            self._calls[actor.consume.remote(self._consumer, job, made)] = _Call(actor, job, made)

    def _free(self, actors: list[Any]) -> Any | None:
        """The actor with the fewest calls, if it may have another."""
        calls = [sum(call.actor is actor for call in self._calls.values()) for actor in actors]
        fewest = min(range(len(actors)), key=calls.__getitem__, default=None)
        return None if fewest is None or calls[fewest] >= _CALLS else actors[fewest]

    def _settled(self, reference: Any) -> Iterator[tuple[Job, Any]]:
        import ray
        from ray.exceptions import RayTaskError

        call = self._calls.pop(reference)
        try:
            result = ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        if call.made is None:
            self._ready.appendleft((call.job, result))
        elif isinstance(result, str) and result == _LOST:
            self._to_make.appendleft(call.job)
        else:
            yield call.job, result
