"""Which checkpoints of a run stay: the best by validation always, of the others all, or the newest few.

Best is the one with the highest validation accuracy (of targets that are numbers: the lowest validation loss), among
equals the first. Its checkpoint is written when it is found, also between the steps that have one anyway, and goes when a
better one is found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class Best:
    """The best validation so far.

    Attributes:
        step: when it was; None: there was none yet.
        accuracy: what it found; of numbers the loss, negative.
        since: validations after it.
    """

    step: int | None = None
    accuracy: float = -math.inf
    since: int = 0

    @classmethod
    def of(cls, lines: Iterable[Mapping[str, Any]]) -> Best:
        """What a run's metrics tell."""
        best = cls()
        for line in lines:
            if "validation_loss" in line and isinstance(line.get("step"), int):
                best.see(line["step"], worth(line))
        return best

    def see(self, step: int, accuracy: float) -> bool:
        """Take in a validation; whether it is the best so far."""
        if accuracy > self.accuracy:
            self.step, self.accuracy, self.since = step, accuracy, 0
            return True
        self.since += 1
        return False


def worth(line: Mapping[str, Any]) -> float:
    """By what a validation's line of the metrics is compared: its accuracy, or, where it has none, less its loss."""
    accuracy, loss = line.get("validation_accuracy"), line.get("validation_loss")
    if isinstance(accuracy, float | int):
        return float(accuracy)
    return -loss if isinstance(loss, float | int) else -math.inf


def superfluous(steps: Sequence[int], *, newest: int, best: int | None, former: int | None, keep: int) -> list[int]:
    """The steps among those that have a checkpoint, ascending, whose checkpoint goes.

    Args:
        steps: that have a checkpoint.
        newest: the one just written.
        best: the best by validation.
        former: what was best before it, where that has a checkpoint for no other reason.
        keep: so many of the newest stay; 0: all.
    """
    going = set(steps[:-keep]) if keep else set()
    going |= {former} & set(steps) if former is not None else set()
    return sorted(going - {0, newest, best})  # 0: what a run was begun from
