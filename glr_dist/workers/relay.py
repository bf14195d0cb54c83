"""Answers of pools as they come: `drain` for several pools at once, `relay` where one makes what the other takes.

for call, answer in relay(jobs, makers, takers):      # Call(3, "examine", (job,), source=Call(3, "samples", (job,)))
...
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from glr_dist.workers.line import Ticket, settled
from glr_dist.workers.parcels import Lost
from glr_dist.workers.pool import Call, Pool

_LOOK_SECONDS = 0.1  # between looks at what Ray has to tell, while lines are waited for


def drain(*pools: Pool) -> Iterator[tuple[Call, Any]]:
    """(call, answer) of every call submitted to the pools, also in between, as they come; returns when none is left.

    Of pools that work in this process, the last that has calls does the next one, so
    whoever uses what others make is named after them.

    Raises:
        UserError: one that a call raised.
        RuntimeError: when workers die faster than they answer, or none could be started again.
    """
    while busy := [pool for pool in pools if pool.busy]:
        waits = [(pool, *pool.waits()) for pool in busy]
        references = [reference for _, refs, _ in waits for reference in refs]
        patience = min((seconds for _, _, seconds in waits if seconds is not None), default=None)
        done = _done(references, patience)
        for pool, refs, _ in waits:
            if pool.size:
                yield from pool.take([reference for reference in refs if reference in done])
        local = next((pool for pool in reversed(pools) if pool.busy and not pool.size), None)
        if local is not None:
            yield from local.take(())


def _done(references: Sequence[Any], seconds: float | None) -> set[Any]:
    """Those of Ray's references and of lines' tickets that are done, as soon as one is, or after so many seconds."""
    tickets = [reference for reference in references if isinstance(reference, Ticket)]
    others = [reference for reference in references if not isinstance(reference, Ticket)]
    if not others:
        return set(settled(tickets, seconds)) if tickets else set()
    import ray

    if not tickets:
        return set(ray.wait(others, num_returns=1, timeout=seconds)[0])
    until = None if seconds is None else time.monotonic() + seconds
    while True:  # no one can wait for both
        left = _LOOK_SECONDS if until is None else min(_LOOK_SECONDS, until - time.monotonic())
        found: set[Any] = set(settled(tickets, max(0.0, left)))
        found |= set(ray.wait(others, num_returns=len(others), timeout=0)[0]) if not found else set()
        if found or left < _LOOK_SECONDS:
            return found


def relay(
    calls: Iterable[Call], makers: Pool, takers: Pool, *, waiting: int | None = None, losses: int = 8
) -> Iterator[tuple[Call, Any]]:
    """(call, answer) of calls to ``takers``, as they come; what a call's ``source`` makes goes to it as a last argument.

    At most so many things are ``waiting``, being made or not used yet, as they take memory; None: what keeps all busy. What
    was lost with its maker is made again.

    Raises:
        UserError: one that a call raised.
        RuntimeError: as `drain`, and when one and the same thing is lost more than ``losses`` times.
    """
    to_make: deque[Call] = deque()
    for call in calls:
        if call.source is None:
            takers.submit(call)
        else:
            to_make.append(call)
    most = waiting or 2 * (makers.size + takers.size + 1)
    under_way: dict[Call, Call] = {}  # source -> the call that waits for it
    lost: Counter[Call] = Counter()

    def make() -> None:
        while to_make and len(under_way) < most:
            call = to_make.popleft()
            assert call.source is not None
            under_way[call.source] = call
            makers.submit(call.source)

    make()
    for call, answer in drain(makers, takers):
        if isinstance(answer, Lost):
            assert call.source is not None
            lost[call.source] += 1
            if lost[call.source] > losses:
                raise RuntimeError(f"what the call {call.verb} {call.key} needs was lost {losses + 1} times")
            makers.submit(call.source)
        elif call in under_way:  # made
            user = under_way[call]
            takers.submit(replace(user, arguments=(*user.arguments, answer)))
        else:
            if call.source is not None:
                del under_way[call.source]
            yield call, answer
            make()
