"""Contenders timed in turn, round after round, so that a noisy machine disturbs all of them alike; the best round counts.

Times are those that a core worked, of all threads of this process together, so other work on the machine adds little to
them; what actors do is timed by the clock on the wall.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ROUNDS = 5


@dataclass(kw_only=True)
class Contender:
    """One way to do a training step.

    Attributes:
        name: for people to read.
        passes: forward passes of one example that a step makes, those of back-propagation included.
        gradient: computes one step's gradient.
        loop: trains for so many seconds, and returns the milliseconds of a whole step: rows, gradient, optimizer, and for
            our own all that a run writes down.
        wall: whether the gradient is timed by the clock on the wall.
        gradient_ms: best round; None where nobody measures it.
        loop_ms: best round; None where nobody measures it.
    """

    name: str
    passes: int
    gradient: Callable[[], None] | None = None
    loop: Callable[[float], float] | None = None
    wall: bool = False
    gradient_ms: float | None = None
    loop_ms: float | None = None

    @property
    def passes_per_second(self) -> float:
        """Of the gradient, or of the loop where that alone was measured."""
        ms = self.gradient_ms or self.loop_ms
        return 0.0 if ms is None else 1000 * self.passes / ms


def repeated(step: Callable[[], None], *, wall: bool = False) -> Callable[[float], float]:
    """A loop that does nothing but this step."""
    now = time.perf_counter if wall else time.process_time

    def run(seconds: float) -> float:
        steps, started = 0, now()
        while steps == 0 or now() - started < seconds:
            step()
            steps += 1
        return 1000 * (now() - started) / steps

    return run


def measure(contenders: Sequence[Contender], seconds: float, rounds: int = ROUNDS) -> None:
    """Time every contender in turn, ``seconds`` for its gradient and as many for its loop in each round."""
    for contender in contenders:
        if contender.gradient is not None:
            contender.gradient()  # what is made at the first call is no part of a step
    for _ in range(rounds):
        for contender in contenders:
            if contender.gradient is not None:
                run = repeated(contender.gradient, wall=contender.wall)
                contender.gradient_ms = _better(contender.gradient_ms, run(seconds))
            if contender.loop is not None:
                contender.loop_ms = _better(contender.loop_ms, contender.loop(seconds))


def _better(best: float | None, found: float) -> float:
    return found if best is None else min(best, found)


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of the same keys as a table; None is left empty, numbers are rounded to three digits or to whole ones."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)
