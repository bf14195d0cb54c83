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
from glr_dist.errors import UserError
from glr_dist.runs.network import open_network

SPLIT = "validation"
_BATCH = 1000  # examples per pass


class Validation:
    """Measures checkpoints of one task, one after the other."""

    def __init__(self, task: Task) -> None:
        """Take over a task; the networks that are measured are in no network of the run."""
        self._task = task
        self._model = copy.deepcopy(task.model)

    def __call__(self, checkpoint: str) -> dict[str, Any]:
        """Measure one.

        Args:
            checkpoint: its folder.

        Returns:
            step, split, n, accuracy, epsilon, fgsm_accuracy (None for a network without any gradient, and inputs outside
            [0, 1]), params_sha256.

        Raises:
            UserError: when the checkpoint is not sound, or can't be attacked for another reason.
        """
        network = open_network(checkpoint, model=self._model)
        clean = clean_accuracy(network.model, self._task.loss, self._task.data.batches(SPLIT, _BATCH))
        epsilon = self._task.augment.epsilon
        return {
            "step": network.step,
            "split": SPLIT,
            "n": clean.n,
            "accuracy": clean.accuracy,
            "epsilon": epsilon,
            "fgsm_accuracy": self._attacked(network.model, epsilon),
            "params_sha256": network.params_sha256,
        }

    def _attacked(self, model: nn.Module, epsilon: float) -> float | None:
        if any(x.min() < 0 or x.max() > 1 for x, _ in self._task.data.batches(SPLIT, _BATCH)):
            return None  # no images: an epsilon would mean nothing

        def attacked() -> Iterator[tuple[Tensor, Tensor]]:
            for x, labels in self._task.data.batches(SPLIT, _BATCH):
                with straight_through():
                    yield fgsm(model, x, labels, epsilon), labels

        try:
            return clean_accuracy(model, self._task.loss, attacked()).accuracy
        except NoGradientError:
            return None


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
