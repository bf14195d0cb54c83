"""What is large and travels with calls: parameter vectors on their way to workers, and what one worker makes for another."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_PIECE = 80_000  # bytes
_MOST_IN_CALLS = 1_000_000  # bytes
_FETCH_SECONDS = 10.0  # for what a call can do without


class Vector:
    """A parameter vector as an argument of many calls; their verb sees the array.

    Ray carries arguments of up to 100 kB in the call itself, which is milliseconds faster than a stay in the object store:
    small vectors go in pieces. Large ones go into the store, once for all calls.
    """

    def __init__(self, values: np.ndarray) -> None:
        """Nothing is cut before a call to another process needs it; ``values`` must stay as they are."""
        self.values = values
        self._pieces: list[Any] | None = None

    def pieces(self) -> list[Any]:
        """As arguments for an actor's method: arrays of up to 80 kB, or one reference."""
        if self._pieces is None:
            import ray

            if self.values.nbytes > _MOST_IN_CALLS:
                self._pieces = [ray.put(self.values)]
            else:
                self._pieces = list(np.array_split(self.values, max(1, -(-self.values.nbytes // _PIECE))))
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
class _Cut:
    """In the place of a Vector: how many of the pieces behind the call are its own."""

    pieces: int


def packed(arguments: Sequence[Any]) -> tuple[bytes, list[Any], int]:
    """Arguments on their way to another process.

    Returns:
        All but vectors and what is stored, pickled; these, as further arguments of an actor's method; bytes of it all.
    """
    slots: list[Any] = []
    extras: list[Any] = []
    carried = 0
    for argument in arguments:
        if isinstance(argument, Vector):
            slots.append(_Cut(len(argument.pieces())))
            extras += argument.pieces()
            carried += argument.values.nbytes
        elif isinstance(argument, Stored):
            slots.append(_Cut(1))
            extras.append(argument)
        else:
            slots.append(argument)
    written = pickle.dumps(slots)
    return written, extras, carried + len(written)


def unpacked(written: bytes, extras: Sequence[Any], *, needed: bool) -> list[Any] | Lost:
    """The arguments again, as the verb wants them; see `arrived`."""
    arguments: list[Any] = []
    start = 0
    for slot in pickle.loads(written):
        if not isinstance(slot, _Cut):
            arguments.append(slot)
            continue
        pieces = extras[start : start + slot.pieces]
        start += slot.pieces
        arguments.append(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))
    return arrived(arguments, needed=needed)


def arrived(arguments: Sequence[Any], *, needed: bool) -> list[Any] | Lost:
    """Arguments as the verb wants them: vectors as arrays, and what is stored fetched.

    Args:
        arguments: of a call.
        needed: whether the verb can't do without what is stored; else it is told None in its place when that is lost or
            comes late.
    """
    found: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Vector):
            found.append(argument.values)
        elif isinstance(argument, Stored):
            made = argument.fetch(None if needed else _FETCH_SECONDS)
            if isinstance(made, Lost) and needed:
                return made
            found.append(None if isinstance(made, Lost) else made)
        else:
            found.append(argument)
    return found
