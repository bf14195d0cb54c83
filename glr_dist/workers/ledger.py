"""Who has which call, and how long one takes: what a pool of actors knows of its workers."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from glr_dist.workers.parcels import Parcel
from glr_dist.workers.pool import Call, Worker, queue

_SLOW_MEMORY_SECONDS = 10.0  # a worker that was slow is tried again after that
_HISTORY = 50  # durations that define "usual"


class Ledger:
    """The calls of a pool that nobody has answered yet.

    Attributes:
        queue: those that nobody has in hand.
        open: all of them, each as it travels.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        """``workers``: the pool's, as they are at any time."""
        self.queue: deque[Call] = deque()
        self.open: dict[Call, Parcel] = {}
        self._workers = workers
        self._killed: Counter[Call] = Counter()  # workers that died at it
        self._durations: deque[float] = deque(maxlen=_HISTORY)  # of the latest calls, in seconds

    def add(self, call: Call, parcel: Parcel) -> None:
        """A new call."""
        self.open[call] = parcel
        queue(self.queue, call)

    def next_for(self, worker: Worker) -> Call | None:
        """Take the call from the queue that suits a worker best: the first near to what it has read, or the first."""
        while self.queue:
            call = next((c for c in self.queue if c.near is not None and c.near in worker.near), self.queue[0])
            self.queue.remove(call)
            if call in self.open:
                return call
        return None

    def hand(self, worker: Worker, call: Call, reference: Any) -> None:
        """A worker has been given a call."""
        worker.in_hand[reference] = call, time.monotonic()
        if call.near is not None:
            worker.near.add(call.near)

    def cross_off(self, worker: Worker, reference: Any) -> bool:
        """A worker has answered a call; False: somebody else was first."""
        call, started = worker.in_hand.pop(reference)
        now = time.monotonic()
        seconds = now - worker.since(started)
        worker.seconds = seconds if not worker.seconds else 0.8 * worker.seconds + 0.2 * seconds
        worker.answered, worker.last_answer = worker.answered + 1, now
        self._durations.append(seconds)
        self._killed.pop(call, None)
        return self.open.pop(call, None) is not None

    def give_back(self, worker: Worker) -> int:
        """Put the open calls of a worker that is gone back into the queue, but those that others have too; how many."""
        back = [call for call in worker.calls if self._alone(call)]
        self.queue.extendleft(back)
        return len(back)

    def blame(self, worker: Worker) -> tuple[Call | None, int]:
        """The call that a dead worker was at, and how many workers have died at it."""
        call = next((call for call in worker.calls if call in self.open), None)
        if call is None:
            return None, 0
        self._killed[call] += 1
        return call, self._killed[call]

    def late(self, seconds: float) -> Iterator[Call]:
        """Open calls that one worker alone has had in hand for longer than that."""
        then = time.monotonic() - seconds
        for worker in self._workers:
            for call, started in list(worker.in_hand.values()):
                if worker.since(started) < then and self._alone(call):
                    yield call

    def expected(self, worker: Worker) -> float:
        """Seconds that a call should take there: at least as long as the present one does; old slowness is forgiven."""
        now = time.monotonic()
        seconds = worker.seconds or self.usual()
        if worker.in_hand:
            first = min(started for _, started in worker.in_hand.values())
            return max(seconds, now - worker.since(first))
        return min(seconds, self.usual()) if now - worker.last_answer > _SLOW_MEMORY_SECONDS else seconds

    def usual(self) -> float:
        """Seconds that a call usually takes."""
        return median(self._durations) if self._durations else 1.0

    def _alone(self, call: Call) -> bool:
        """Whether one worker has it in hand, and nobody has answered it."""
        return call in self.open and sum(call in worker.calls for worker in self._workers) == 1
