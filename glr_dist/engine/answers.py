"""Whether a worker's answer can be one at all: its type, shape and, for losses, finiteness.

An evaluator has looked at its losses before it sends them, and a user's loss at fault is told as such
(`glr_dist.core.losses.check_losses`). So whatever is wrong here is the fault of the worker or of its machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_dist.engine.plan import WorkUnit
from glr_dist.engine.task import Task


def losses_fault(task: Task, arguments: tuple[Any, ...], answer: Any) -> str | None:
    """What is wrong with an evaluator's answer; None: nothing.

    Args:
        task: what is trained.
        arguments: of `glr_dist.engine.actors.Worker.work`: the units lead.
        answer: should be one float32 [K, R] for each unit.
    """
    units: Sequence[WorkUnit] = arguments[0][0]
    if not isinstance(answer, list) or len(answer) != len(units):
        return f"{units[0]}: {_described(answer)} for {len(units)} units"
    for unit, losses in zip(units, answer, strict=True):
        shape = unit.draws * task.estimator.signs, task.schedule.rows
        if not _is_float32(losses, shape):
            return f"{unit}: {_described(losses)} where float32 losses of shape {shape} belong"
        if not np.isfinite(losses).all():
            return f"{unit}: losses that are not finite, which the evaluator itself did not see"
    return None


def gradient_fault(size: int, arguments: tuple[Any, ...], answer: Any) -> str | None:
    """What is wrong with a reconstructor's answer; None: nothing.

    Its values may be anything: those of a model that diverges are not finite, wherever they are computed.

    Args:
        size: trainable parameters.
        arguments: of `glr_dist.engine.actors.Worker.work`.
        answer: should be one float32 [size].
    """
    return None if _is_float32(answer, (size,)) else f"{_described(answer)} where a gradient of {size} values belongs"


def reference_fault(arguments: tuple[Any, ...], answer: Any) -> str | None:
    """What is wrong with a generator's answer; None: nothing.

    Args:
        arguments: of `glr_dist.engine.actors.Worker.work`.
        answer: should be one object reference, wrapped up.
    """
    import ray

    fine = isinstance(answer, tuple) and len(answer) == 1 and isinstance(answer[0], ray.ObjectRef)
    return None if fine else f"{_described(answer)} where a reference to a block's rows belongs"


def _is_float32(value: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float32 and value.shape == shape


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"a list of {len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
