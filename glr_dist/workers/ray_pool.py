"""A pool of Ray actors: who runs which call, what happens when a worker dies, dawdles or comes late.

It knows which call is where, and

* keeps at most ``in_flight`` calls at a worker, those near to what it has read first;
* gives a call to the worker that should finish it first, so that a slow one is left alone while others are quicker;
* puts the calls of a dead worker back into the queue and starts another worker in its place;
* gives a call that takes far longer than its like to an idle worker as well;
* discards an answer that can't be one, and treats the worker that gave it as a dead one;
* starts further workers when it may and the cluster has grown.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from glr_dist.errors import UserError
from glr_dist.workers.ledger import Ledger
from glr_dist.workers.line import SECRET, Line, LineError, Ticket, push
from glr_dist.workers.parcels import Lost, Parcel
from glr_dist.workers.pool import Call, Counts, PoolPolicy, Worker

_HEDGE_SECONDS = 0.03  # no call is called late before that
_UNREACHED = 3  # workers in a row that can't be reached over a line, after which nobody tries
_MUCH_SLOWER = 3.0  # times the quickest worker's seconds, from which on a worker would hold the others up
_IDLE_SECONDS = 1.0  # between looks at workers that have nothing to do


class RayPool:
    """Runs calls on actors, as `glr_dist.workers.actor.actor_starter` starts them."""

    def __init__(
        self,
        start: Callable[[], Any],
        size: int,
        policy: PoolPolicy = PoolPolicy(),  # noqa: B008  it is frozen
        *,
        room: Callable[[int], int] | None = None,
        check: Callable[[Call, Any], str | None] = lambda call, answer: None,
        lines: bool = False,
    ) -> None:
        """Start the actors, each by a call of ``start``, which returns its handle; does not wait for them.

        ``room`` tells how many further actors a pool of so many may start now, if the number shall not stay as it is;
        ``check`` what is wrong with the answer to a call, None: nothing. ``lines``: whether calls go over connections of
        their own, where one can be had; for answers that can be pickled, and none of them `Stored`.
        """
        self._start = start
        self._policy = policy
        self._room = room
        self._check = check
        self._secret = secrets.token_bytes(2 * SECRET) if lines else None
        self.counts = Counts()
        self._workers: list[Worker] = []
        self._ledger = Ledger(self._workers)
        self._unreached = 0  # workers in a row whose line could not be opened
        self._deaths_in_a_row = 0
        self._looked_for_room = self._looked_at_idle = time.monotonic()
        self._somebody = time.monotonic()  # when there last was one that takes calls
        try:
            for number in range(size):
                self._workers.append(self._new_worker(number))
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """Number of actors."""
        return len(self._workers)

    @property
    def hands(self) -> int:
        """The actors that take calls, without those that are far slower than the quickest."""
        expected = [self._ledger.expected(worker) for worker in self._workers if worker.ready]
        return max(1, sum(seconds <= _MUCH_SLOWER * min(expected) for seconds in expected))

    @property
    def busy(self) -> bool:
        """Whether there are calls without an answer."""
        return bool(self._ledger.open)

    def members(self) -> list[Worker]:
        """The actors, by their number; another thread may ask."""
        return list(self._workers)

    def wait_ready(self) -> None:
        """Wait until every actor has answered its first ping; UserError when some have not in time."""
        import ray

        seconds = self._policy.start_seconds
        pings = {worker.ping: worker for worker in self._workers if not worker.ready}
        done, late = ray.wait(list(pings), num_returns=len(pings), timeout=seconds) if pings else ([], [])
        if late:
            raise UserError(
                f"--workers: {len(late)} of {self.size} actors did not start within {seconds:.0f} s; the cluster may be"
                " too busy or too small: ask for fewer or smaller ones"
            )
        for ping in done:  # a worker that can't be built says why
            self._started(pings[ping], ray.get(ping))

    def submit(self, call: Call) -> None:
        """Queue a call and hand it out at once if a worker is free."""
        if not self.busy:
            self._somebody = time.monotonic()
        parcel = Parcel(call.arguments)
        self.counts.bytes_down += parcel.nbytes
        self._ledger.add(call, parcel)
        self._dispatch()

    def waits(self) -> tuple[list[Any], float | None]:
        """All that is under way, and when to look for dawdlers; None when nobody could help anyway."""
        self._grow()
        self._look_at_idle()
        self._dispatch()
        under_way = [reference for worker in self._workers for reference in worker.in_hand]
        under_way += [worker.ping for worker in self._workers if not worker.ready]
        if not any(worker.ready for worker in self._workers):
            return under_way, 1.0
        late = self._late_seconds()
        return under_way, None if late is None or self.size == 1 else late / 2

    def flush(self, seconds: float) -> None:
        """Wait until the calls have left that were handed out, so long at most: before the caller does other work."""
        push([worker.line for worker in self._workers if worker.line is not None], seconds)

    def take(self, done: Sequence[Any]) -> Iterator[tuple[Call, Any]]:
        """Take in what has come; the calls that are answered now."""
        for reference in done:
            answer = self._settle(reference)
            if answer is not None:
                yield answer
        self._help_out()
        self._check_somebody()

    def close(self) -> None:
        """Kill the actors."""
        for worker in self._workers:
            _let_go(worker)
        self._workers.clear()

    def _new_worker(self, number: int) -> Worker:
        actor = self._start()
        return Worker(number, actor, actor.ping.remote(self._secret))

    def _started(self, worker: Worker, answer: tuple[str, int, tuple[str, int] | None]) -> None:
        """A worker says that it lives, not that it can answer a call."""
        worker.node, worker.pid, place = answer
        if self._secret is not None and place is not None:
            worker.line = Line.open(place, self._secret)
            self._unreached = 0 if worker.line is not None else self._unreached + 1
            if self._unreached == _UNREACHED:  # nor will others be; Ray's own calls do as well
                self._secret = None

    def _dispatch(self) -> None:
        while self._ledger.queue:
            ready = [w for w in self._workers if w.ready]
            if not ready:
                return
            worker = min(ready, key=lambda w: ((len(w.in_hand) + 1) * self._ledger.expected(w), len(w.in_hand)))
            if len(worker.in_hand) >= self._policy.in_flight:
                return
            call = self._ledger.next_for(worker)
            if call is not None:
                self._hand(worker, call)

    def _grow(self) -> None:
        if self._room is None or time.monotonic() - self._looked_for_room < self._policy.grow_seconds:
            return
        self._looked_for_room = time.monotonic()
        if all(worker.ready for worker in self._workers):  # those that wait to start need the room themselves
            for _ in range(self._room(self.size)):
                self._workers.append(self._new_worker(len(self._workers)))

    def _look_at_idle(self) -> None:
        """Replace workers that died while they had nothing to do; nobody would find out until they are needed."""
        if time.monotonic() - self._looked_at_idle < _IDLE_SECONDS:
            return
        self._looked_at_idle = time.monotonic()
        for worker in list(self._workers):
            line = worker.line
            if line is None or worker.in_hand:
                continue
            line.pump()
            if line.cut is not None:
                self._replace(worker, line.cut)

    def _hand(self, worker: Worker, call: Call) -> None:
        parcel, needed = self._ledger.open[call], call.source is not None
        reference: Any
        if worker.line is not None and parcel.by_line and not needed:
            reference = worker.line.send([call.verb.encode(), parcel.written, *parcel.for_line()])
        else:
            reference = worker.actor.work.remote(call.verb, needed, parcel.written, *parcel.for_ray())
        self._ledger.hand(worker, call, reference)

    def _settle(self, reference: Any) -> tuple[Call, Any] | None:
        """Take in one finished reference; (call, answer) if it is the first answer to an open call."""
        import ray
        from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

        worker = next((w for w in self._workers if reference in w.in_hand or reference is w.ping), None)
        if worker is None:
            return None  # it came together with the death of its worker
        try:
            answer = reference.answer() if isinstance(reference, Ticket) else ray.get(reference)
        except RayTaskError as error:
            if reference is not worker.ping and not self._ledger.cross_off(worker, reference):
                return None  # somebody else was first
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        except (RayActorError, ObjectLostError, LineError) as error:  # the second: the answer was lost with its node
            self._replace(worker, error)
            return None
        except Exception:  # of the call itself, over a line
            if isinstance(reference, Ticket) and not self._ledger.cross_off(worker, reference):
                return None
            raise
        if reference is worker.ping:
            self._started(worker, answer)
            return None
        call, _ = worker.in_hand[reference]
        fault = None if isinstance(answer, Lost) else self._check(call, answer)
        if fault is not None:
            self.counts.faults += 1
            self._replace(worker, RuntimeError(fault))
            return None
        self._deaths_in_a_row = 0
        return (call, answer) if self._ledger.cross_off(worker, reference) else None

    def _replace(self, worker: Worker, error: Exception) -> None:
        """Start another worker in the place of one that died, was cut off or answers wrongly."""
        _let_go(worker)  # it may live, and hold what its successor needs
        self.counts.deaths += 1
        self._deaths_in_a_row += 1
        why = str(error).partition("\n")[0]
        if self._deaths_in_a_row > self._policy.deaths * self.size:
            raise RuntimeError(
                f"{self._deaths_in_a_row} workers died one after the other without a sound answer in between ({why})"
            ) from error
        call, deaths = self._ledger.blame(worker)
        if call is not None and deaths > self._policy.deaths:
            raise RuntimeError(f"{deaths} workers died at the call {call.verb} {call.key} ({why})") from error
        self.counts.retries += self._ledger.give_back(worker)
        self._workers[self._workers.index(worker)] = self._new_worker(worker.number)

    def _late_seconds(self) -> float | None:
        """Seconds after which a call takes too long."""
        hedge = self._policy.hedge
        return None if hedge is None else max(_HEDGE_SECONDS, hedge * self._ledger.usual())

    def _help_out(self) -> None:
        """Give calls that take too long to idle workers as well."""
        late = self._late_seconds()
        idle = [worker for worker in self._workers if worker.ready and not worker.in_hand]
        if late is None or self._ledger.queue or not idle:
            return
        for call in self._ledger.late(late):
            if idle:
                self._hand(idle.pop(), call)
                self.counts.retries += 1

    def _check_somebody(self) -> None:
        now = time.monotonic()
        if any(worker.ready for worker in self._workers):
            self._somebody = now
        elif now - self._somebody > self._policy.nobody_seconds:
            raise RuntimeError(
                f"all {self.size} workers are gone and none could be started for {self._policy.nobody_seconds:.0f} s"
            )


def _let_go(worker: Worker) -> None:
    import ray

    if worker.line is not None:
        worker.line.close()
    ray.kill(worker.actor)
