"""A pool whose answers somebody sees before its user does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from glr_dist.workers.pool import Call, Pool


class WatchedPool:
    """Another pool, and ``see(call, answer)`` for each of its answers."""

    def __init__(self, pool: Pool, see: Callable[[Call, Any], None]) -> None:
        self._pool, self._see = pool, see

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def take(self, done: Sequence[Any]) -> Iterator[tuple[Call, Any]]:
        for call, answer in self._pool.take(done):
            self._see(call, answer)
            yield call, answer
