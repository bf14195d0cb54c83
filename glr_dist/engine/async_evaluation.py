"""Evaluating checkpoints beside a run: an actor that sees nothing of the run but its folder, and never holds it up.

What is measured is handed in: checkpoint in, figures out. Each line of ``report/evaluations.jsonl`` tells of one checkpoint.
Only the end of a run waits for what is still under way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Any

import torch

from glr_dist.store.evaluations import add_evaluation
from glr_dist.store.storage import Storage

Measure = Callable[[str], Mapping[str, Any]]  # a checkpoint's folder -> JSON values, its step among them
_LAST_SECONDS = 120.0  # that the end of a run waits
_NICENESS = 10  # evaluators go first


@contextmanager
def evaluated_beside(
    measure: Measure, run: Storage, record: Callable[[Mapping[str, Any]], None], say: Callable[[str], None]
) -> Iterator[Callable[[str], None]]:
    """Within: a function that has a checkpoint, given by its folder, evaluated beside the run. Ray must be connected.

    ``measure`` travels to the actor. ``record`` is given what was found, some time later and in this thread; ``say`` is told
    in a line of what could not be evaluated.
    """
    import ray

    shared = ray.put(measure)  # held here, and wrapped up: Ray drops an actor's arguments, and then can't restart it
    actor = _start([shared], run)
    looks: list[Any] = []

    def gather(seconds: float) -> None:
        """Record what has been found, or is within so many seconds."""
        done, looks[:] = ray.wait(looks, num_returns=len(looks), timeout=seconds) if looks else ([], [])
        found = []
        for look in done:
            try:
                found.append(ray.get(look))
            except ray.exceptions.RayError as error:
                say(f"note: a checkpoint was not evaluated: {str(error).strip().splitlines()[-1]}")
        for line in sorted(found, key=itemgetter("step")):
            record(line)

    def look(checkpoint: str) -> None:
        gather(0.0)
        looks.append(actor.look.remote(checkpoint))

    try:
        yield look
        gather(_LAST_SECONDS)
        if looks:
            say(f"note: {len(looks)} checkpoints were not evaluated within {_LAST_SECONDS:.0f} s of the end")
    except BaseException:
        with suppress(Exception):  # what went wrong is what the user must hear
            gather(0.0)
        raise
    finally:
        ray.kill(actor)


def _start(measure: Sequence[Any], run: Storage) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    here = NodeAffinitySchedulingStrategy(node, soft=False)  # it sees the same folder
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 3, "max_task_retries": 3, "scheduling_strategy": here}
    return ray.remote(**options)(_Actor).remote(measure, run.uri)


class _Actor:
    """Measures in a process of its own, which leaves the CPUs to those that train."""

    def __init__(self, measure: Sequence[Any], run: str) -> None:
        import ray

        torch.set_num_threads(1)
        os.nice(_NICENESS)
        self._measure: Measure = ray.get(measure[0])
        self._run = Storage.at(run)

    def look(self, checkpoint: str) -> Mapping[str, Any]:
        found = self._measure(checkpoint)
        add_evaluation(self._run, found)
        return found
