"""How near 0 a sum may be for float32 to take its sign for the other: the margins of the hidden units and of the leads.

A float32 sum of n products is within ``gamma_n * sum |w_j s_j|`` of the exact one in whatever order it is added up, with
``gamma_n = n u / (1 - n u)`` and u = 2^-24 (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1);
terms that are 0 cost nothing. The solver adds its own: a row, and each bit in it, may be 1e-6 off. A margin is the sum of
both or, where it is greater, a share (1e-4 unless asked otherwise) of the sum's size, the Euclidean norm of its weights and
bias. All grow with the weights, so a unit's or a read-out's scale changes no verdict. Trained rows have sizes of about 1.

Shapes: D inputs, H hidden units.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glr_dist.attacks.exact.network import SLACK, Ball, Floats, ThresholdNetwork

Values = TypeVar("Values", Floats, Tensor)

_ROUNDOFF = 2.0**-24
_SOLVER = 1e-6  # HiGHS's tolerance on rows, whose size is 1 there, and on bits
_TINY = float(np.finfo(np.float32).tiny)  # a product below it may be lost altogether
_EXTRA = 6  # roundings of a term beside its additions: a product, the bias, the mean and deviation of a standardization


def float32_error(terms: int | Values, magnitude: Values) -> Values:
    """How far a float32 sum of at most that many products that are not 0, and a bias, may be from the exact one.

    Magnitude, of any shape, is the sum of their absolute values at most. Arrays or tensors, float64.
    """
    n = terms + _EXTRA
    bound: Values = n * _ROUNDOFF / (1.0 - n * _ROUNDOFF) * magnitude + n * _TINY
    return bound


def unit_margins(network: ThresholdNetwork, ball: Ball, share: float) -> Floats:
    """How near 0 each hidden unit's pre-activation may be for its bit to be either: [H], at least a share of its size.

    Without a threshold the inputs may also be 1e-6 beyond the ball's edge.
    """
    greatest = ball.start + abs(network.mean)  # [D] of what is multiplied, before the division that w holds
    greatest[ball.movable] += ball.width
    weights = np.abs(network.w)
    magnitude = weights @ greatest + np.abs(network.b) + abs(network.mean) * weights.sum(1)
    beyond = 0.0 if ball.threshold is not None else SLACK * weights.sum(1)
    solver = _SOLVER * (network.sizes + 2.0 * magnitude)  # its inputs, and the bit whose weight is the least value
    error = float32_error(int(np.count_nonzero(greatest)), magnitude) + beyond + solver
    margins: Floats = np.maximum(share * network.sizes, error)
    return margins


def lead_margin(network: ThresholdNetwork, wrong: int, label: int, on: NDArray[np.bool_], share: float) -> float:
    """How near 0 the lead of a wrong class over the label may be for float32 to see the other in front.

    At least a share of the lead's size; ``on`` says of the units [H] which may be 1.
    """
    magnitude = sum(np.abs(network.v[c, on]).sum() + abs(network.d[c]) for c in (wrong, label))
    size = lead_size(network, wrong, label)
    solver = _SOLVER * (2.0 * size + np.abs(network.v[wrong] - network.v[label]).sum())
    return max(share * size, float(float32_error(int(on.sum()), magnitude) + solver))


def lead_size(network: ThresholdNetwork, wrong: int, label: int) -> float:
    """The Euclidean norm of the weights and bias that make a lead."""
    q = network.v[wrong] - network.v[label]
    return float(np.hypot(np.linalg.norm(q), network.d[wrong] - network.d[label]))
