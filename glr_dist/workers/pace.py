"""How fast a pool's workers are, and when a call has taken so long that somebody else should run it too."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glr_dist.workers.pool import Call

_SLOW_FACTOR = 4.0  # times the usual duration, after which a call is also given to an idle worker
_SLOW_SECONDS = 0.03  # but never before that
_SLOW_MEMORY_SECONDS = 10.0  # a worker that was slow is tried again after that
_HISTORY = 50  # durations that define "usual"


@dataclass(eq=False)
class Worker:
    """An actor and what it is doing. It gets no calls before its first ping is answered.

    Attributes:
        number: its place in the pool; the worker that replaces it has the same.
        actor: the handle.
        ping: reference of the first ping's answer; None once that is in.
        calls: what it has in hand, reference -> (call, when it was handed over, in seconds).
        shards: the shards that it has read.
        seconds: moving average of its calls' durations.
        answered: when it last answered.
        busy_since: when it came to the oldest of its calls.
    """

    number: int
    actor: Any
    ping: Any
    calls: dict[Any, tuple[Call, float]] = field(default_factory=dict)
    shards: set[int] = field(default_factory=set)
    seconds: float = 0.0
    answered: float = 0.0
    busy_since: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether it takes calls."""
        return self.ping is None

    def since(self, started: float) -> float:
        """When it came to a call that was handed over at ``started``: those before it had to be done first."""
        return max(started, self.busy_since)


class Pace:
    """What a call usually takes in one pool, learned from the latest answers."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=_HISTORY)

    def note(self, worker: Worker, started: float) -> None:
        """A worker has just answered a call that was handed to it at ``started``."""
        worker.answered = time.monotonic()
        seconds = worker.answered - worker.since(started)
        worker.busy_since = worker.answered
        worker.seconds = seconds if not worker.seconds else 0.8 * worker.seconds + 0.2 * seconds
        self._durations.append(seconds)

    def expected(self, worker: Worker) -> float:
        """Seconds that a call should take there: at least as long as the present one does; old slowness is forgiven."""
        now = time.monotonic()
        seconds = worker.seconds or self._usual()
        if worker.calls:
            first = min(started for _, started in worker.calls.values())
            return max(seconds, now - worker.since(first))
        return min(seconds, self._usual()) if now - worker.answered > _SLOW_MEMORY_SECONDS else seconds

    def slow_after(self) -> float:
        """Seconds after which a call takes too long."""
        return max(_SLOW_SECONDS, _SLOW_FACTOR * self._usual())

    def _usual(self) -> float:
        return median(self._durations) if self._durations else 1.0
