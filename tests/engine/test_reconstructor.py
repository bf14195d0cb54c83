"""What a reconstructor sends home."""

from __future__ import annotations

import numpy as np

from glr_dist.engine.reconstructor import BlockGradient


def test_a_gradient_is_a_float32_vector_of_the_parameters_length() -> None:
    diverged = BlockGradient(np.array([1, np.nan, 2], np.float32), None)
    assert BlockGradient.fault(diverged, 3) is None  # the driver tells what is not finite
    short = BlockGradient(np.zeros(2, np.float32), None)
    assert BlockGradient.fault(short, 3) == "float32 of shape (2,) where a gradient of 3 values belongs"
    assert BlockGradient.fault([1.0, 2.0], 3) == "a list of 2 where a gradient of 3 values belongs"
