"""What was made of a tensor, kept until that is another one or written to."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor


class Kept:
    """Remembers one result for each key; views of the same memory are the same tensor."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Tensor, int, Tensor]] = {}  # source, its version then, and what was made

    def of(self, key: Hashable, source: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """``make(source)``, or what that gave before; nobody may write to it."""
        found = self._made.get(key)
        if found is None or not _same(found[0], source) or found[1] != source._version:
            # to hold the source keeps its memory from being used for another tensor
            found = self._made[key] = source, source._version, make(source)
        return found[2]


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()
