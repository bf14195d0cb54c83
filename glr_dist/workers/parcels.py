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
    """In the place of an argument: which of the pieces behind the call are its own."""

    first: int
    end: int


def packed(arguments: Sequence[Any]) -> tuple[bytes, list[Any], int]:
    """Arguments on their way to another process.

    Returns:
        All but vectors and what is stored, pickled once for all workers that are given the call; these, as further
        arguments of an actor's method; bytes of it all.
    """
    slots: list[Any] = []
    extras: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Vector | Stored):
            first = len(extras)
            extras += argument.pieces() if isinstance(argument, Vector) else [argument]
            slots.append(_Behind(first, len(extras)))
        else:
            slots.append(argument)
    written = pickle.dumps(slots)
    vectors = sum(argument.values.nbytes for argument in arguments if isinstance(argument, Vector))
    return written, extras, len(written) + vectors


def unpacked(written: bytes, extras: Sequence[Any]) -> list[Any]:
    """The arguments again, with arrays for vectors."""
    slots = pickle.loads(written)
    for number, slot in enumerate(slots):
        if isinstance(slot, _Behind):
            pieces = extras[slot.first : slot.end]
            slots[number] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    return slots  # type: ignore[no-any-return]


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
