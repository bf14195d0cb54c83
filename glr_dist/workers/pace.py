"""How fast a pool's workers are, and when a call has taken so long that somebody else should run it too."""

from __future__ import annotations

import time
from collections import deque
from statistics import median

from glr_dist.workers.ledger import Worker

_SLOW_MEMORY_SECONDS = 10.0  # a worker that was slow is tried again after that
_HISTORY = 50  # durations that define "usual"


class Pace:
    """What a call usually takes in one pool, learned from the latest answers."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=_HISTORY)

    def note(self, worker: Worker, started: float) -> None:
        """A worker has just answered a call that was handed to it at ``started``."""
        worker.answers += 1
        worker.answered = time.monotonic()
        seconds = worker.answered - worker.since(started)
        worker.busy_since = worker.answered
        worker.seconds = seconds if not worker.seconds else 0.8 * worker.seconds + 0.2 * seconds
        self._durations.append(seconds)

    def expected(self, worker: Worker) -> float:
        """Seconds that a call should take there: at least as long as the present one does; old slowness is forgiven."""
        now = time.monotonic()
        seconds = worker.seconds or self.usual()
        if worker.calls:
            first = min(started for _, started in worker.calls.values())
            return max(seconds, now - worker.since(first))
        return min(seconds, self.usual()) if now - worker.answered > _SLOW_MEMORY_SECONDS else seconds

    def usual(self) -> float:
        """Seconds that a call usually takes."""
        return median(self._durations) if self._durations else 1.0
