"""Who runs an evaluation's jobs: this process, or, with the same verbs, the Ray actors of `glr_dist.robustness.actors`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from glr_dist.core.threads import fixed_threads
from glr_dist.robustness.examination import Job
from glr_dist.robustness.generation import Generator, Order

Show = Callable[[int, int, str], None]  # jobs done, of how many, what the last one was


class Consumer(Protocol):
    """Takes a job, and the samples that a generator made for it if it is an Order's: an Examiner or a Writer."""

    def consume(self, job: Any, batch: Any) -> Any:
        """The answer to a job: a function of the job alone."""


class Crew(Protocol):
    """Somebody who runs jobs."""

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
        """Every job with its answer, as they come."""

    def close(self) -> None:
        """Let everybody go."""


class LocalCrew:
    """Runs jobs in this process, in order."""

    def __init__(self, generator: Generator, consumer: Consumer) -> None:
        self._generator = generator
        self._consumer = consumer

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Any]]:
        """Every job with its answer, in order."""
        for job in jobs:
            with fixed_threads(1):
                batch = self._generator.generate(job.line, job.chunk) if isinstance(job.line, Order) else None
                answer = self._consumer.consume(job, batch)
            yield job, answer

    def close(self) -> None:
        """Nobody to let go."""


@contextmanager
def crew_of(
    generator: Generator, consumer: Consumer, *, generators: int, workers: int, cpus: tuple[int, int]
) -> Iterator[Crew]:
    """Within: a crew.

    Args:
        generator: makes samples.
        consumer: examines or writes them.
        generators: actors that make samples.
        workers: actors that take them; 0: all happens in this process, without Ray.
        cpus: reserved for each generator and for each worker; those who mostly wait for the others need none.
    """
    crew: Crew
    if workers:
        from glr_dist.robustness.actors import RayCrew

        crew = RayCrew(generator, consumer, generators=generators, consumers=workers, cpus=cpus)
    else:
        crew = LocalCrew(generator, consumer)
    try:
        yield crew
    finally:
        crew.close()


def describe(job: Job) -> str:
    """A job's line in a word or two, for a progress display."""
    line = job.line
    if isinstance(line, Order) or hasattr(line, "attack"):
        return f"{line.attack.name} {line.attack.epsilon:g}"
    return getattr(line, "name", type(line).__name__.lower())
