"""Who has which call: the queue of a pool, its open calls, and what every worker has in hand."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from glr_dist.workers.pool import Call, Member, queue


@dataclass(eq=False)
class Worker:
    """An actor and what it is doing. It gets no calls before its first ping is answered.

    Attributes:
        number: its place in the pool; the worker that replaces it has the same.
        actor: the handle.
        ping: reference of the first ping's answer; None once that is in.
        identity: its process and its node's id, which that answer says.
        calls: what it has in hand, reference -> (call, when it was handed over, in seconds).
        near: what it has read.
        seconds: moving average of its calls' durations.
        answers: calls that it has answered.
        answered: when it last did.
        busy_since: when it came to the oldest of its calls.
    """

    number: int
    actor: Any
    ping: Any
    identity: tuple[int, str] | None = None
    calls: dict[Any, tuple[Call, float]] = field(default_factory=dict)
    near: set[Hashable] = field(default_factory=set)
    seconds: float = 0.0
    answers: int = 0
    answered: float = 0.0
    busy_since: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether it takes calls."""
        return self.ping is None

    def since(self, started: float) -> float:
        """When it came to a call that was handed over at ``started``: those before it had to be done first."""
        return max(started, self.busy_since)

    def seen(self) -> Member:
        """It, for others to look at."""
        pid, node = self.identity or (None, None)
        calls = tuple(call for call, _ in list(self.calls.values()))
        return Member(self.number, self.actor, pid, node, calls, self.answers)


class Ledger:
    """The calls of a pool that nobody has answered yet."""

    def __init__(self) -> None:
        self.queue: deque[Call] = deque()
        self._open: dict[Hashable, Call] = {}
        self._killed: Counter[Hashable] = Counter()  # workers that died at a call, by its key

    def __bool__(self) -> bool:
        """Whether any call is open."""
        return bool(self._open)

    def open(self, call: Call) -> None:
        """A new call."""
        self._open[call.key] = call
        queue(self.queue, call)

    def is_open(self, call: Call) -> bool:
        """Whether nobody has answered it; another call of the same key is another call."""
        return self._open.get(call.key) is call

    def next_for(self, worker: Worker) -> Call | None:
        """Take the call from the queue that suits a worker best: the first near to what it has read, or the first."""
        while self.queue:
            call = next((c for c in self.queue if c.near is not None and c.near in worker.near), self.queue[0])
            self.queue.remove(call)
            if self.is_open(call):
                return call
        return None

    def hand(self, worker: Worker, call: Call, reference: Any) -> None:
        """A worker has been given a call."""
        worker.calls[reference] = call, time.monotonic()
        if call.near is not None:
            worker.near.add(call.near)

    def close(self, call: Call) -> bool:
        """A call has been answered; False: somebody else was first."""
        if not self.is_open(call):
            return False
        del self._open[call.key]
        self._killed.pop(call.key, None)
        return True

    def give_back(self, worker: Worker, others: Sequence[Worker]) -> list[Call]:
        """Put the open calls of a worker that is gone back into the queue, but those that others have too; which."""
        back = [call for call, _ in worker.calls.values() if self.is_open(call) and not _held(call, others)]
        self.queue.extendleft(back)
        return back

    def blame(self, worker: Worker) -> tuple[Call | None, int]:
        """The call that a dead worker was at, and how many workers have died at it."""
        call = next((call for call, _ in worker.calls.values() if self.is_open(call)), None)
        if call is None:
            return None, 0
        self._killed[call.key] += 1
        return call, self._killed[call.key]

    def late(self, workers: Sequence[Worker], seconds: float) -> Iterator[Call]:
        """Open calls that one worker alone has had in hand for longer than that."""
        then = time.monotonic() - seconds
        for worker in list(workers):
            others = [other for other in workers if other is not worker]
            for call, started in list(worker.calls.values()):
                if worker.since(started) < then and self.is_open(call) and not _held(call, others):
                    yield call


def _held(call: Call, workers: Sequence[Worker]) -> bool:
    return any(call is other for worker in workers for other, _ in worker.calls.values())
