"""Ray actors: thin wrappers that give a plain class of one role a process, a device and a number of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from glr_dist.engine.evaluator import Evaluator
from glr_dist.engine.reconstructor import Reconstructor
from glr_dist.engine.rows import BlockRows, Made, Rows
from glr_dist.engine.task import Task

_PIECE = 80_000  # bytes
_MOST_IN_CALLS = 1_000_000  # bytes
_FETCH_SECONDS = 10.0  # for rows from another node, after which they are made here


def role_function(
    role: str, task: Task, table: np.ndarray | None, device: str, rows: BlockRows | None = None
) -> Callable[..., Any]:
    """What a worker of that role does with a call.

    Args:
        role: ``evaluator`` (`Evaluator.evaluate`), ``reconstructor`` (`Reconstructor.block_gradient`) or ``generator``
            (`BlockRows.of`, and the rows stay in the object store of its node).
        task: what is trained.
        table: the noise table, or None.
        device: ``cpu`` or ``cuda``.
        rows: makes the blocks' rows; shared by those who work in one process, None: one of its own.
    """
    rows = rows or BlockRows(task)
    if role == "evaluator":
        return Evaluator(task, table, device, rows).evaluate
    if role == "reconstructor":
        return Reconstructor(task, table, device, rows).block_gradient
    assert role == "generator"
    return lambda *arguments: _stored(rows.of(*arguments))


class Worker:
    """The actor's class: answers pings, and calls of its role."""

    def __init__(self, role: str, task: Task, table: np.ndarray | None, device: str, threads: int) -> None:
        """Build the role's object in the actor's process; ``threads`` are torch's."""
        import torch

        torch.set_num_threads(threads)
        if device == "cuda":
            # TensorFloat-32 keeps 10 bits: a reconstructor elsewhere would see other bits than the evaluator did
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        self._function = role_function(role, task, table, device)

    def ping(self) -> bool:
        """Answers when the worker is built."""
        return True

    def work(self, arguments: tuple[Any, ...], *pieces: np.ndarray) -> Any:
        """One call of the role's function with the parameters, as `parcels` cut them, and further arguments."""
        import ray

        parameters = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return self._function(
            parameters, *(arrived(each) if isinstance(each, ray.ObjectRef) else each for each in arguments)
        )


def arrived(rows: Any) -> Made:
    """Rows that a call brought along, fetched; None for rows that can't be had any more, since their maker died."""
    if rows is None or isinstance(rows, tuple):
        return rows  # nothing to fetch, and perhaps no Ray
    import ray
    from ray.exceptions import GetTimeoutError, ObjectLostError

    try:
        made: Made = ray.get(rows, timeout=_FETCH_SECONDS)
    except (ObjectLostError, GetTimeoutError):
        return None
    return made


def _stored(rows: Rows) -> tuple[Any, ...]:
    """Rows in the object store: a reference to them, wrapped up so that Ray hands it on as it is."""
    import ray

    x, labels = rows
    return (ray.put((x.numpy(), labels.numpy())),)


def parcels(parameters: np.ndarray) -> list[Any]:
    """A parameter vector as arguments for actor calls.

    Ray carries arguments of up to 100 kB in the call itself, which is milliseconds faster than a stay in the object store:
    small vectors go in pieces. Large ones go into the store, once for all calls.
    """
    import ray

    if parameters.nbytes > _MOST_IN_CALLS:
        return [ray.put(parameters)]
    return np.array_split(parameters, -(-parameters.nbytes // _PIECE))


def actor_starter(role: str, task: Any, table: Any, *, gpus: float, threads: int) -> Callable[[], Any]:
    """A function that starts one actor of that role.

    Args:
        role: ``evaluator``, ``reconstructor`` or ``generator``.
        task: object reference of the Task.
        table: object reference of the noise table, or None.
        gpus: GPUs of the actor. An actor without GPUs may still see some, so the device is said explicitly.
        threads: torch threads, and CPUs reserved.
    """
    import ray

    device = "cuda" if gpus else "cpu"
    remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0, max_task_retries=0)(Worker)
    return lambda: remote.remote(role, task, table, device, threads)
