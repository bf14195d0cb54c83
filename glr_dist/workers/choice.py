"""Which of several ways to do the same thing is the quickest: found by trying them in turn, and asked again now and then.

    choice = Choice(("driver", "workers"))
    while True:
        way, began = choice.way, time.perf_counter()
        ...                                    # by that way
        choice.took(time.perf_counter() - began)

The way that was chosen is kept unless another one is clearly quicker, and trying the others costs a small share of the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from statistics import median

_FIRST, _TRIES = 2, 5  # times that a way is gone before it is measured, and while it is
_CLEARLY = 0.95  # of the present way's time that another one may take at most to be preferred
_COST = 0.01  # share of the time that looking at the others may take
_LEAST = 200  # times that the chosen way is gone before the others are looked at again


class Choice:
    """The way to go next, given what each has taken so far."""

    def __init__(
        self, ways: Sequence[str], say: Callable[[str, dict[str, float]], None] = lambda way, took: None
    ) -> None:
        """Of these ways, the first at first; ``say`` is told of every choice: the way, and the seconds that each takes."""
        self.ways = tuple(ways)
        self.way = self.ways[0]  # to go next
        self._say = say
        self._chosen: str | None = None
        self._to_try = deque(self.ways if len(self.ways) > 1 else ())
        self._took: dict[str, deque[float]] = {way: deque(maxlen=_TRIES) for way in self.ways}
        self._gone = 0  # times in a row by the present way
        self._patience = _LEAST

    def add(self, ways: Sequence[str]) -> None:
        """Further ways, to be tried at once."""
        self.ways += tuple(ways)
        self._took |= {way: deque(maxlen=_TRIES) for way in ways}
        self._chosen = self._chosen or self.ways[0]
        self._try([self.way, *ways])

    def took(self, seconds: float) -> None:
        """The present way has been gone once more, in so many seconds."""
        self._gone += 1
        if not self._to_try:
            self._took[self.way].append(seconds)
            if self._gone >= self._patience and len(self.ways) > 1:
                self._try([way for way in self.ways if way != self.way])
        elif self._gone > _FIRST:
            self._took[self.way].append(seconds)
            if self._gone >= _FIRST + _TRIES:
                self._next()

    def typical(self) -> dict[str, float]:
        """The seconds that each way takes, of those that were gone."""
        return {way: median(took) for way, took in self._took.items() if took}

    def _try(self, ways: Sequence[str]) -> None:
        self._to_try = deque(ways)
        for way in ways:
            self._took[way].clear()
        self.way, self._gone = self._to_try[0], 0

    def _next(self) -> None:
        """On to the next that is to be tried, or to the quickest."""
        self._to_try.popleft()
        if self._to_try:
            self.way, self._gone = self._to_try[0], 0
            return
        took = self.typical()
        best = min(took, key=lambda way: took[way])
        if self._chosen is None or took[best] < _CLEARLY * took[self._chosen]:
            if best != self._chosen:
                self._say(best, took)
            self._chosen = best
        extra = sum((_FIRST + _TRIES) * max(0.0, seconds - took[self._chosen]) for seconds in took.values())
        self._patience = max(_LEAST, round(extra / (_COST * took[self._chosen])))
        self.way, self._gone = self._chosen, 0
