"""What is large and travels with calls: parameter vectors on their way to workers, and what one worker makes for another."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_PIECE = 80_000  # bytes
_MOST_IN_CALLS = 1_000_000  # bytes
_MOST_BY_LINE = 8_000_000  # bytes; larger ones go into the store once for all workers of a node
_FETCH_SECONDS = 10.0  # for what a call can do without


class Vector:
    """A parameter vector as an argument of many calls; their verb sees the array.

    Ray carries arguments of up to 100 kB in the call itself, which is milliseconds faster than a stay in the object store:
    small vectors go in pieces. Large ones go into the store, once for all calls.
    """

    def __init__(self, values: np.ndarray) -> None:
        """Nothing is cut before a call to another process needs it; ``values`` must stay as they are."""
        self.values = values
        self._pieces: list[Any] = []

    def pieces(self) -> list[Any]:
        """As arguments for an actor's method: arrays of up to 80 kB, or one reference."""
        if not self._pieces and self.values.nbytes > _MOST_IN_CALLS:
            import ray

            self._pieces = [ray.put(self.values)]
        elif not self._pieces:
            self._pieces = np.array_split(self.values, max(1, -(-self.values.nbytes // _PIECE)))
        return self._pieces


class Stored:
    """What a worker has made and keeps in the object store of its node; who passes it on never sees it.

    It is lost with the worker that made it.
    """

    def __init__(self, made: Any) -> None:
        """Keep it here."""
        import ray

        self.reference = ray.put(made)

    def fetch(self, seconds: float | None = None) -> Any:
        """What was made, or `Lost`: with its maker, or not to be had within so many seconds."""
        import ray
        from ray.exceptions import GetTimeoutError, ObjectLostError

        try:
            return ray.get(self.reference, timeout=seconds)
        except (ObjectLostError, GetTimeoutError):
            return Lost()


@dataclass(frozen=True)
class Lost:
    """In the place of an answer: an argument that the call needs can't be had any more."""


@dataclass(frozen=True)
class _Behind:
    """In the place of an argument: which of those that travel beside the call it is."""

    number: int


class Parcel:
    """The arguments of a call on their way to other processes: written once, for all workers that are given the call.

    Attributes:
        written: all but vectors and what is stored, pickled.
        nbytes: of it all.
    """

    def __init__(self, arguments: Sequence[Any]) -> None:
        self._beside: list[Vector | Stored] = []
        slots: list[Any] = []
        for argument in arguments:
            if isinstance(argument, Vector | Stored):
                slots.append(_Behind(len(self._beside)))
                self._beside.append(argument)
            else:
                slots.append(argument)
        self.written = pickle.dumps(slots)
        vectors = [each.values.nbytes for each in self._beside if isinstance(each, Vector)]
        self.nbytes = len(self.written) + sum(vectors)
        self.by_line = len(vectors) == len(self._beside) and max(vectors, default=0) <= _MOST_BY_LINE

    def for_ray(self) -> list[Any]:
        """As arguments of an actor's method, behind `written`: how many each is made of, and all these."""
        pieces = [each.pieces() if isinstance(each, Vector) else [each] for each in self._beside]
        return [[len(of_one) for of_one in pieces], *(piece for of_one in pieces for piece in of_one)]

    def for_line(self) -> list[np.ndarray]:
        """As frames, behind `written`; where it is ``by_line``."""
        return [np.ascontiguousarray(each.values) for each in self._beside if isinstance(each, Vector)]


def unpacked(written: bytes, beside: Sequence[Any]) -> list[Any]:
    """The arguments again, with arrays for vectors; ``beside``: what the parcel held beside what is ``written``."""
    slots: list[Any] = pickle.loads(written)
    return [beside[slot.number] if isinstance(slot, _Behind) else slot for slot in slots]


def joined(counts: Sequence[int], pieces: Sequence[Any]) -> list[Any]:
    """What was beside a call, of the pieces that Ray brought."""
    found, first = [], 0
    for count in counts:
        found.append(pieces[first] if count == 1 else np.concatenate(pieces[first : first + count]))
        first += count
    return found


def answered(role: Any, verb: str, arguments: Sequence[Any], *, needed: bool) -> Any:
    """What a role's verb answers; it sees vectors as arrays, and what was stored.

    Where that is lost or comes late, the verb is told None in its place; or, if it is ``needed``, not called: the answer
    is `Lost`.
    """
    found: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Stored):
            made = argument.fetch(None if needed else _FETCH_SECONDS)
            if needed and isinstance(made, Lost):
                return made
            found.append(None if isinstance(made, Lost) else made)
        else:
            found.append(argument.values if isinstance(argument, Vector) else argument)
    return getattr(role, verb)(*found)
