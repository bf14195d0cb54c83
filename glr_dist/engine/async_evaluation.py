"""Evaluating checkpoints beside a run: an actor that sees nothing of the run but its folder, and never holds it up.

Each line of ``report/evaluations.jsonl`` tells of one checkpoint: accuracy on the validation split, clean and under FGSM on
the network itself with a straight-through derivative. Only the end of a run waits for what is still under way.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from glr_dist.attacks.ascent import fgsm
from glr_dist.core.activations import straight_through
from glr_dist.core.prediction import clean_accuracy
from glr_dist.engine.task import Task
from glr_dist.errors import UserError
from glr_dist.models.weights import load_weights
from glr_dist.store.checkpoint import load_checkpoint
from glr_dist.store.storage import Storage

EVALUATIONS = "report/evaluations.jsonl"
SPLIT = "validation"
_BATCH = 1000  # examples per pass
_LAST_SECONDS = 120.0  # that the end of a run waits
_NICENESS = 10  # evaluators go first


class Spectator:
    """Evaluates checkpoints of one run, one after the other."""

    def __init__(self, task: Task, run: str) -> None:
        """Take over a task.

        Args:
            task: what is trained.
            run: the run's folder, as a path or URI.
        """
        self._task = task
        self._run = Storage.at(run)
        self._model = copy.deepcopy(task.model)

    def look(self, checkpoint: str) -> dict[str, Any]:
        """Evaluate a checkpoint and add what was found to the run's report.

        Args:
            checkpoint: its folder.

        Returns:
            The line: step, split, n, accuracy, epsilon, fgsm_accuracy (None for a network without any gradient, and
            inputs outside [0, 1]), params_sha256.
        """
        loaded = load_checkpoint(checkpoint)
        load_weights(self._model, loaded.weights, loaded.place)
        clean = clean_accuracy(self._model, self._task.loss, self._task.data.batches(SPLIT, _BATCH))
        epsilon = self._task.augment.epsilon
        found = {
            "step": loaded.step,
            "split": SPLIT,
            "n": clean.n,
            "accuracy": clean.accuracy,
            "epsilon": epsilon,
            "fgsm_accuracy": self._attacked(epsilon),
            "params_sha256": loaded.meta["params_sha256"],
        }
        self._add(found)
        return found

    def _attacked(self, epsilon: float) -> float | None:
        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for x, labels in self._task.data.batches(SPLIT, _BATCH):
                yield twin_fgsm(self._model, x, labels, epsilon), labels

        try:
            return clean_accuracy(self._model, self._task.loss, batches()).accuracy
        except UserError:
            return None

    def _add(self, found: dict[str, Any]) -> None:
        """In its place, once: a spectator that died looks again, and not in the order that it was asked in."""
        others = [line for line in _told(self._run) if line["step"] != found["step"]]
        _tell(self._run, sorted([*others, found], key=itemgetter("step")))


def forget_evaluations(run: Storage, after: int) -> None:
    """Drop what was said of the checkpoints of steps after ``after``."""
    told = _told(run)
    kept = [line for line in told if line["step"] <= after]
    if len(kept) < len(told):
        _tell(run, kept)


def _told(run: Storage) -> list[dict[str, Any]]:
    """What was said so far; a damaged line, which nothing hangs on, is left out."""
    lines = []
    for line in run.read(EVALUATIONS).splitlines() if run.exists(EVALUATIONS) else []:
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines


def _tell(run: Storage, lines: Sequence[Mapping[str, Any]]) -> None:
    run.write(EVALUATIONS, b"".join(json.dumps(line).encode() + b"\n" for line in lines))


def twin_fgsm(model: nn.Module, x: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """FGSM on a network with a straight-through derivative for its Heaviside units: [B, ...]."""
    with straight_through():
        return fgsm(model, x, labels, epsilon)


def refuse_without_split(task: Task) -> None:
    """Refuse to evaluate checkpoints on nothing.

    Raises:
        UserError: when no rows are held out for validation.
    """
    if not task.data.count(SPLIT):
        raise UserError(
            "evaluate_every: checkpoints are evaluated on the validation split, and there is none; raise data.validation,"
            " or leave --evaluate-every out"
        )


@contextmanager
def spectated(task: Task, run: Storage, say: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Within: a function that has a checkpoint, given by its folder, evaluated beside the run. Ray must be connected.

    Args:
        task: what is trained.
        run: the run's folder.
        say: told in a line of what could not be evaluated.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )  # it sees the same folder
    options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 3, "max_task_retries": 3, "scheduling_strategy": here}
    shared = ray.put(task)  # held here, and wrapped up: Ray drops an actor's arguments, and then can't restart it
    actor: Any = ray.remote(**options)(_Actor).remote([shared], run.uri)
    looks: list[Any] = []
    try:
        yield lambda checkpoint: looks.append(actor.look.remote(checkpoint))
        _await(looks, say)
    finally:
        ray.kill(actor)


def _await(looks: list[Any], say: Callable[[str], None]) -> None:
    import ray

    done, late = ray.wait(looks, num_returns=len(looks), timeout=_LAST_SECONDS) if looks else ([], [])
    if late:
        say(f"note: {len(late)} checkpoints were not evaluated within {_LAST_SECONDS:.0f} s of the end")
    for look in done:
        try:
            ray.get(look)
        except ray.exceptions.RayError as error:
            say(f"note: a checkpoint was not evaluated: {str(error).strip().splitlines()[-1]}")


class _Actor(Spectator):
    """A spectator in a process of its own, which leaves the CPUs to those that train."""

    def __init__(self, task: Sequence[Any], run: str) -> None:
        import ray

        torch.set_num_threads(1)
        os.nice(_NICENESS)
        super().__init__(ray.get(task[0]), run)
