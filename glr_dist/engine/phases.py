"""Where the time of a step goes: evaluation, reconstruction, the wire, waiting for the slowest, the optimizer.

Evaluation and reconstruction are means over those who did them at the same time; who was done before the slowest of them
waited; what is left of the gradient's time went to the wire: calls, copies, and the driver's own bookkeeping.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MEMORY = 0.95  # of the shares so far, at each further step
_SETTLED = 20  # steps before anything is said of them


@dataclass(frozen=True, kw_only=True)
class Phases:
    """Seconds of one step."""

    evaluation: float = 0.0
    reconstruction: float = 0.0
    wire: float = 0.0
    waiting: float = 0.0
    optimizer: float = 0.0

    @classmethod
    def of(cls, seconds: float, spent: Sequence[tuple[float, float]], after: float, *, in_turn: bool) -> Phases:
        """Of the seconds that a gradient took in all.

        Args:
            seconds: in all.
            spent: on evaluation and on reconstruction, of each share.
            after: on reconstruction by the driver, or by others who do nothing else.
            in_turn: whether one process did one share after the other.
        """
        evaluation, reconstruction = (sum(each) for each in zip(*spent, strict=True)) if spent else (0.0, 0.0)
        waiting = 0.0
        if not in_turn and spent:
            busy = [sum(each) for each in spent]
            waiting = max(busy) - sum(busy) / len(busy)
            evaluation, reconstruction = evaluation / len(spent), reconstruction / len(spent)
        reconstruction += after
        wire = max(0.0, seconds - evaluation - reconstruction - waiting)
        return cls(evaluation=evaluation, reconstruction=reconstruction, wire=wire, waiting=waiting)

    def figures(self) -> dict[str, float]:
        """In milliseconds, as metrics have them."""
        return {f"ms/{name}": round(1000 * seconds, 3) for name, seconds in vars(self).items()}

    def with_optimizer(self, seconds: float) -> Phases:
        """And the optimizer's step."""
        return dataclasses.replace(self, optimizer=seconds)


class Bottleneck:
    """What most of the time goes to, of late."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._steps = 0

    def see(self, phases: Phases) -> None:
        """One more step."""
        self._steps += 1
        for name, seconds in vars(phases).items():
            self._seconds[name] = _MEMORY * self._seconds.get(name, 0.0) + (1 - _MEMORY) * seconds

    def name(self) -> tuple[str, float] | None:
        """The phase that takes the most, and its share; None where that is evaluation, as it should be."""
        return _largest(self._seconds) if self._steps >= _SETTLED else None


def _largest(seconds: Mapping[str, float]) -> tuple[str, float] | None:
    name = max(seconds, key=lambda each: seconds[each])
    total = sum(seconds.values())
    return None if name == "evaluation" or not total else (name, seconds[name] / total)
