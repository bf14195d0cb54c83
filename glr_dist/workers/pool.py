"""Pools of workers: who runs which call, what happens when a worker dies, dawdles or comes late.

A *call* is a function of its arguments alone, so it may run twice or elsewhere; whoever answers first counts. `LocalPool`
runs calls in this process; `RayPool` spreads them over Ray actors, knows which call is where, and

* keeps at most ``in_flight`` calls at a worker, those of the shards that it already holds first;
* gives a call to the worker that should finish it first, so that a slow one is left alone while others are quicker;
* puts the calls of a dead worker back into the queue and starts another worker in its place;
* gives a call that takes far longer than its like to an idle worker as well;
* discards an answer that can't be one, and treats the worker that gave it as a dead one;
* starts further workers when it may and the cluster has grown.

Both have the same two verbs: `submit` and `drain`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from glr_dist.errors import UserError
from glr_dist.workers.pace import Pace, Worker

_GROW_SECONDS = 1.0  # between looks for room for further workers
_DEATHS = 8  # consecutive deaths and faults per worker, with no sound answer in between, that end the run
_NOBODY_SECONDS = 300.0  # without a single worker, after which a run ends: nodes that left may come back


@dataclass(frozen=True, eq=False)
class Call:
    """One call to a worker.

    Attributes:
        key: what the caller knows it by.
        arguments: the worker's arguments.
        shard: the data shard it reads.
    """

    key: Any
    arguments: tuple[Any, ...]
    shard: int = 0


class Pool(Protocol):
    """Somewhere that runs calls."""

    def submit(self, call: Call) -> None:
        """Queue a call."""

    def drain(self) -> Iterator[tuple[Any, Any]]:
        """(key, result) of every call submitted, as they come; returns when none is left."""

    def close(self) -> None:
        """Let the workers go."""


class LocalPool:
    """Runs calls in this process, in order."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work
        self._queue: deque[Call] = deque()

    def submit(self, call: Call) -> None:
        """Queue a call."""
        self._queue.append(call)

    def drain(self) -> Iterator[tuple[Any, Any]]:
        """(key, result) of every call submitted."""
        while self._queue:
            call = self._queue.popleft()
            yield call.key, self._work(*call.arguments)

    def close(self) -> None:
        """Nothing to let go."""


class RayPool:
    """Runs calls on Ray actors that have the methods ``ping()`` and ``work(*arguments)``."""

    def __init__(
        self,
        start: Callable[[], Any],
        size: int,
        in_flight: int,
        room: Callable[[], int] | None = None,
        check: Callable[[tuple[Any, ...], Any], str | None] = lambda arguments, answer: None,
    ) -> None:
        """Start the actors; does not wait for them.

        Args:
            start: starts one actor and returns its handle.
            size: number of actors.
            in_flight: most calls that wait at one actor.
            room: tells how many further actors may be started now; None: the number stays as it is.
            check: tells what is wrong with the answer to a call of these arguments; None: nothing.
        """
        self._start = start
        self._in_flight = in_flight
        self._room = room
        self._check = check
        self._looked_for_room = time.monotonic()
        self._workers = [self._new_worker(number) for number in range(size)]
        self._queue: deque[Call] = deque()
        self._open: dict[Any, Call] = {}  # key -> call without an answer yet
        self._pace = Pace()
        self._deaths_in_a_row = 0
        self._somebody = time.monotonic()  # when there last was a worker that takes calls
        self.deaths = 0  # workers replaced
        self.faults = 0  # of these, for an answer that could not be one
        self.retries = 0

    @property
    def size(self) -> int:
        """Number of actors."""
        return len(self._workers)

    @property
    def units_in_flight(self) -> int:
        """Calls that workers have and that nobody has answered."""
        return sum(len(worker.calls) for worker in self._workers)

    def wait_ready(self, seconds: float) -> None:
        """Wait until every actor has answered its first ping.

        Raises:
            UserError: when some have not after ``seconds``.
        """
        import ray

        pings = [worker.ping for worker in self._workers if worker.ping is not None]
        done, late = ray.wait(pings, num_returns=len(pings), timeout=seconds) if pings else ([], [])
        if late:
            raise UserError(
                f"engine.workers: {len(late)} of {self.size} workers did not start within {seconds:.0f} s; the cluster"
                " may be too busy or too small: lower --workers, --reconstructors or --gpus-per-worker"
            )
        ray.get(done)  # a worker that can't be built says why
        for worker in self._workers:
            worker.ping = None

    def submit(self, call: Call) -> None:
        """Queue a call and hand it out at once if a worker is free."""
        self._open[call.key] = call
        self._queue.append(call)
        self._dispatch()

    def drain(self) -> Iterator[tuple[Any, Any]]:
        """(key, result) of every call submitted, as they come; returns when none is left.

        Raises:
            UserError: one that a worker raised.
            RuntimeError: when workers die faster than they answer, or none could be started again.
        """
        import ray

        self._somebody = time.monotonic()
        self._grow()
        while self._open:
            self._dispatch()
            refs = [ref for worker in self._workers for ref in worker.calls]
            refs += [worker.ping for worker in self._workers if worker.ping is not None]
            done, _ = ray.wait(refs, num_returns=1, timeout=self._patience())
            for ref in done:
                answer = self._settle(ref)
                if answer is not None:
                    yield answer
            self._help_out()
            self._check_somebody()

    def close(self) -> None:
        """Kill the actors."""
        import ray

        for worker in self._workers:
            ray.kill(worker.actor)
        self._workers = []

    def _new_worker(self, number: int) -> Worker:
        actor = self._start()
        return Worker(number, actor, actor.ping.remote())

    def _dispatch(self) -> None:
        while self._queue:
            ready = [w for w in self._workers if w.ready]
            if not ready:
                return
            worker = min(ready, key=lambda w: ((len(w.calls) + 1) * self._pace.expected(w), len(w.calls)))
            if len(worker.calls) >= self._in_flight:
                return
            call = next((c for c in self._queue if c.shard in worker.shards), self._queue[0])
            self._queue.remove(call)
            if call.key in self._open:
                self._hand(worker, call)

    def _grow(self) -> None:
        if self._room is None or time.monotonic() - self._looked_for_room < _GROW_SECONDS:
            return
        self._looked_for_room = time.monotonic()
        if all(worker.ready for worker in self._workers):  # those that wait to start need the room themselves
            for _ in range(self._room()):
                self._workers.append(self._new_worker(len(self._workers)))

    def _hand(self, worker: Worker, call: Call) -> None:
        ref = worker.actor.work.remote(*call.arguments)
        worker.calls[ref] = (call, time.monotonic())
        worker.shards.add(call.shard)

    def _settle(self, ref: Any) -> tuple[Any, Any] | None:
        """Take in one finished ref; (key, result) if it is the first answer to an open call."""
        import ray
        from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

        worker = next(w for w in self._workers if ref in w.calls or ref is w.ping)
        try:
            result = ray.get(ref)
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except (RayActorError, ObjectLostError) as error:  # the second: the answer was lost with its node
            self._replace(worker, error)
            return None
        if ref is worker.ping:
            worker.ping = None  # says that it lives, not that it can answer a call
            return None
        call, started = worker.calls[ref]
        fault = self._check(call.arguments, result)
        if fault is not None:
            self.faults += 1
            self._replace(worker, RuntimeError(fault))
            return None
        del worker.calls[ref]
        self._deaths_in_a_row = 0
        self._pace.note(worker, started)
        if self._open.get(call.key) is not call:
            return None  # somebody else was first
        del self._open[call.key]
        return call.key, result

    def _replace(self, worker: Worker, error: Exception) -> None:
        """Start another worker in the place of one that died, was cut off or answers wrongly."""
        import ray

        ray.kill(worker.actor)  # it may live, and hold what its successor needs
        self.deaths += 1
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row > _DEATHS * self.size:
            raise RuntimeError(
                f"{self._deaths_in_a_row} workers died one after the other without a sound answer in between"
                f" ({str(error).partition(chr(10))[0]})"
            ) from error
        for call, _ in worker.calls.values():
            if self._open.get(call.key) is call and not self._elsewhere(call, worker):
                self._queue.appendleft(call)
                self.retries += 1
        self._workers[self._workers.index(worker)] = self._new_worker(worker.number)

    def _elsewhere(self, call: Call, worker: Worker) -> bool:
        return any(call is other for w in self._workers if w is not worker for other, _ in w.calls.values())

    def _patience(self) -> float | None:
        """Seconds to wait before looking for dawdlers; None when nobody could help anyway."""
        if not any(worker.ready for worker in self._workers):
            return 1.0
        return self._pace.slow_after() / 2 if self.size > 1 else None

    def _check_somebody(self) -> None:
        now = time.monotonic()
        if any(worker.ready for worker in self._workers):
            self._somebody = now
        elif now - self._somebody > _NOBODY_SECONDS:
            raise RuntimeError(
                f"all {self.size} workers are gone and none could be started for {_NOBODY_SECONDS:.0f} s"
            )

    def _help_out(self) -> None:
        """Give calls that take too long to idle workers as well."""
        if self._queue:
            return
        idle = [w for w in self._workers if w.ready and not w.calls]
        if not idle:
            return
        late = time.monotonic() - self._pace.slow_after()
        for worker in list(self._workers):
            for call, started in list(worker.calls.values()):
                if (
                    idle
                    and worker.since(started) < late
                    and self._open.get(call.key) is call
                    and not self._elsewhere(call, worker)
                ):
                    self._hand(idle.pop(), call)
                    self.retries += 1
