"""Pools: somebody who runs calls, for training and evaluation alike.

A *call* is a function of its arguments alone, so it may run twice or elsewhere; whoever answers first counts. `LocalPool`
runs calls in this process, `glr_dist.workers.ray_pool.RayPool` spreads them over actors, `glr_dist.workers.relay` takes
their answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from glr_dist.core.threads import fixed_threads
from glr_dist.workers.line import Line
from glr_dist.workers.parcels import answered


@dataclass(frozen=True, eq=False)
class Call:
    """One call to a worker.

    Attributes:
        key: what the caller knows it by, hashable; of the calls that a pool has, no two have the same.
        verb: the method of the worker's role that is called.
        arguments: of that method. Large ones: see `glr_dist.workers.parcels`.
        near: what it reads (a data shard), for the worker that has read that before; None: nothing.
        source: the call whose answer is this one's last argument; `glr_dist.workers.relay.relay` runs it first, and again
            when what it made was lost with its maker.
    """

    key: Any
    verb: str
    arguments: tuple[Any, ...] = ()
    near: Hashable = None
    source: Call | None = None


@dataclass(frozen=True, kw_only=True)
class PoolPolicy:
    """How patient a pool is with its workers.

    Work ends after so many ``deaths`` and faults per worker with no sound answer in between, and after so many deaths of
    workers at one and the same call, whatever the others answer.
    """

    in_flight: int = 2  # calls that may wait at one worker
    hedge: float | None = 4.0  # times the usual duration, after which an idle worker is given a call too; None: never
    deaths: int = 8
    nobody_seconds: float = 300.0  # without a single worker, after which work ends: nodes that left may come back
    grow_seconds: float = 1.0  # between looks for room for further workers
    start_seconds: float = 120.0  # for workers to start


@dataclass(kw_only=True)
class Counts:
    """What has happened in a pool so far."""

    deaths: int = 0  # workers replaced
    faults: int = 0  # of these, for an answer that could not be one
    retries: int = 0  # calls handed out again: their worker died or took too long
    bytes_down: int = 0  # of the arguments of all calls to other processes, each counted once


@dataclass(eq=False)
class Worker:
    """An actor and what it is doing; another thread may look at it. One that replaces it has the same number."""

    number: int
    actor: Any
    ping: Any  # reference of its first answer, which says its node and process
    node: str | None = None  # the node's id; None, as `pid`, before it has started
    pid: int | None = None
    line: Line | None = None  # the quick way to it, where there is one
    in_hand: dict[Any, tuple[Call, float]] = field(default_factory=dict)  # by reference; when handed over, in seconds
    near: set[Hashable] = field(default_factory=set)  # what it has read
    answered: int = 0  # calls
    last_answer: float = 0.0  # when that was, in seconds
    seconds: float = 0.0  # moving average of its calls' durations

    @property
    def ready(self) -> bool:
        """Whether it takes calls."""
        return self.pid is not None

    @property
    def calls(self) -> list[Call]:
        """What it has in hand, the oldest first."""
        return [call for call, _ in list(self.in_hand.values())]

    def since(self, started: float) -> float:
        """When it came to a call that was handed over at ``started``: those before it had to be done first."""
        return max(started, self.last_answer)


class Pool(Protocol):
    """Somebody who runs calls."""

    counts: Counts

    @property
    def size(self) -> int:
        """Number of actors; 0: calls run in this process."""

    @property
    def hands(self) -> int:
        """Among how many work that is to be done quickly should be shared out; 1 at least."""

    @property
    def busy(self) -> bool:
        """Whether there are calls without an answer."""

    def members(self) -> list[Worker]:
        """The actors, by their number; another thread may ask."""

    def submit(self, call: Call) -> None:
        """Queue a call."""

    def waits(self) -> tuple[list[Any], float | None]:
        """Object references to wait for, and the seconds after which the pool wants to look about it; None: never."""

    def flush(self, seconds: float) -> None:
        """Wait until the calls have left that were handed out, so long at most."""

    def take(self, done: Sequence[Any]) -> Iterator[tuple[Call, Any]]:
        """Take in what has come of the references, and look about; the calls that are answered now."""

    def close(self) -> None:
        """Let the workers go."""


class LocalPool:
    """Runs calls in this process, one at a time and in order."""

    size = 0
    hands = 1

    def __init__(self, role: Any, threads: int | None = None) -> None:
        """``role`` has the verbs of the calls; torch has so many threads while one runs, None: as many as there are."""
        self.role = role
        self._threads = threads
        self._queue: deque[Call] = deque()
        self.counts = Counts()

    @property
    def busy(self) -> bool:
        """Whether calls are queued."""
        return bool(self._queue)

    def members(self) -> list[Worker]:
        """Nobody."""
        return []

    def submit(self, call: Call) -> None:
        """Queue a call."""
        queue(self._queue, call)

    def waits(self) -> tuple[list[Any], float | None]:
        """Nothing to wait for: the next call runs when its turn comes."""
        return [], 0.0

    def flush(self, seconds: float) -> None:
        """Nothing leaves."""

    def take(self, done: Sequence[Any]) -> Iterator[tuple[Call, Any]]:
        """Run one call."""
        call = self._queue.popleft()
        with nullcontext() if self._threads is None else fixed_threads(self._threads):
            answer = answered(self.role, call.verb, call.arguments, needed=call.source is not None)
        yield call, answer

    def close(self) -> None:
        """Nothing to let go."""


def queue(waiting: deque[Call], call: Call) -> None:
    """Put a call into a queue; calls that hold what another made go first: that takes memory until it is used."""
    if call.source is None:
        waiting.append(call)
    else:
        waiting.appendleft(call)
