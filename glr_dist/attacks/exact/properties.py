"""Robustness as VNN-LIB properties (versions 1.0 and 2.0), and counterexamples as VNN-COMP writes them.

A property says what must not be possible: an input of the ball, within [0, 1], with another class's output at least the
label's. Bounds are rounded outward by less than 1e-12, which is inside what a proof here allows for (1e-6).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np
from numpy.typing import NDArray

VERSIONS = ("1.0", "2.0")
_STEP = Decimal("1e-12")
Box = tuple[NDArray[np.float64], NDArray[np.float64]]  # lowest and highest inputs


def box_around(x: NDArray[np.float32], epsilon: float) -> Box:
    """The ball around an input, within [0, 1]."""
    exact = x.astype(np.float64)
    return (exact - epsilon).clip(0.0, 1.0), (exact + epsilon).clip(0.0, 1.0)


def property_text(version: str, x: NDArray[np.float32], label: int, epsilon: float, classes: int, about: str) -> str:
    """The file's text.

    Args:
        version: of VERSIONS.
        x: the input, of the network's shape without the batch.
        label: its class.
        epsilon: radius.
        classes: of the network.
        about: what the property is of, for a comment.
    """
    low, high = box_around(x, epsilon)
    lines = [f"; {about}", *(_declared_1 if version == "1.0" else _declared_2)(x.shape, classes)]
    name = _input_1 if version == "1.0" else _input_2
    for place, index in enumerate(np.ndindex(x.shape)):
        spot = name(place, index)
        lines.append(f"(assert (>= {spot} {_decimal(float(low[index]), ROUND_FLOOR)}))")
        lines.append(f"(assert (<= {spot} {_decimal(float(high[index]), ROUND_CEILING)}))")
    output = "Y_{}" if version == "1.0" else "Y[0,{}]"
    others = [f"(>= {output.format(c)} {output.format(label)})" for c in range(classes) if c != label]
    arms = " ".join(f"(and {other})" for other in others) if version == "1.0" else " ".join(others)
    lines.append(f"(assert (or {arms}))" if len(others) > 1 else f"(assert {others[0]})")
    return "\n".join(lines) + "\n"


def counterexample_text(x: NDArray[np.float32], logits: NDArray[np.float32]) -> str:
    """An input and what the network gives for it, as VNN-COMP replays it."""
    values = itertools.chain(_assigned("X", x), _assigned("Y", logits))
    return "(" + "\n".join(values) + ")\n"


def _assigned(name: str, values: NDArray[np.float32]) -> Iterator[str]:
    return (f"({name}_{place} {value!r})" for place, value in enumerate(values.astype(np.float64).ravel().tolist()))


def _declared_1(shape: Sequence[int], classes: int) -> Iterator[str]:
    yield from (f"(declare-const X_{place} Real)" for place in range(int(np.prod(shape))))
    yield from (f"(declare-const Y_{place} Real)" for place in range(classes))


def _declared_2(shape: Sequence[int], classes: int) -> Iterator[str]:
    yield "(vnnlib-version <2.0>)"
    yield f"(declare-network N (declare-input X float32 [{_list((1, *shape))}]) (declare-output Y float32 [1,{classes}]))"


def _input_1(place: int, index: Sequence[int]) -> str:
    return f"X_{place}"


def _input_2(place: int, index: Sequence[int]) -> str:
    return f"X[{_list((0, *index))}]"


def _list(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))


def _decimal(value: float, rounding: str) -> str:
    """Without an exponent, which version 2.0's tools do not read."""
    return f"{Decimal(value).quantize(_STEP, rounding=rounding):f}"
