"""What is measured of a checkpoint beside the run: accuracy on the validation split, clean and under attack.

The attack is FGSM on the network itself, with a straight-through derivative for its Heaviside units.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from glr_dist.attacks.ascent import fgsm
from glr_dist.attacks.input_gradient import NoGradientError
from glr_dist.core.activations import straight_through
from glr_dist.core.prediction import clean_accuracy
from glr_dist.engine.task import Task
from glr_dist.runs.network import open_network

SPLIT = "validation"
_BATCH = 1000  # examples per pass


def validated(task: Task, checkpoint: str) -> dict[str, Any]:
    """Measure a checkpoint of a task, given by its folder, without touching the network of the run.

    Returns:
        step, split, n, accuracy, epsilon, fgsm_accuracy (None for a network without any gradient, and inputs outside
        [0, 1]), params_sha256.

    Raises:
        UserError: when the checkpoint is not sound, or can't be attacked for another reason.
    """
    network = open_network(checkpoint, model=copy.deepcopy(task.model))
    clean = clean_accuracy(network.model, task.loss, task.data.batches(SPLIT, _BATCH))
    return {
        "step": network.step,
        "split": SPLIT,
        "n": clean.n,
        "accuracy": clean.accuracy,
        "epsilon": task.augment.epsilon,
        "fgsm_accuracy": _fgsm_accuracy(task, network.model),
        "params_sha256": network.params_sha256,
    }


def _fgsm_accuracy(task: Task, model: nn.Module) -> float | None:
    if task.data.numbers or any(x.min() < 0 or x.max() > 1 for x, _ in task.data.batches(SPLIT, _BATCH)):
        return None  # no images: an epsilon would mean nothing

    def attacked() -> Iterator[tuple[Tensor, Tensor]]:
        for x, labels in task.data.batches(SPLIT, _BATCH):
            with straight_through():
                yield fgsm(model, x, labels, task.augment.epsilon), labels

    try:
        return clean_accuracy(model, task.loss, attacked()).accuracy
    except NoGradientError:
        return None
