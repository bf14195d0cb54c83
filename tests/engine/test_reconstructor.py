"""What a reconstructor sends home."""

from __future__ import annotations

import numpy as np

from glr_dist.engine.reconstructor import gradient_fault


def test_a_gradient_is_a_float32_vector_of_the_parameters_length() -> None:
    assert gradient_fault(3, np.array([1, np.nan, 2], np.float32)) is None  # the driver tells what is not finite
    assert gradient_fault(3, np.zeros(2, np.float32)) == "float32 of shape (2,) where a gradient of 3 values belongs"
    assert gradient_fault(3, [1.0, 2.0, 3.0]) == "a list of 3 where a gradient of 3 values belongs"
