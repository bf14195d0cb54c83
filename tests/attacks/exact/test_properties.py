"""VNN-LIB properties as their parsers read them: the box, rounded outward, and what must not be."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest
import vnnlib
import vnnlib.compat

from glr_dist.attacks.exact.properties import counterexample_text, property_text

X = np.random.default_rng(0).random((1, 3, 2), np.float32)
EPSILON = 0.1


def test_version_2_is_read_by_the_standard_s_own_parser() -> None:
    (case,) = vnnlib.compat.transform(vnnlib.parse_query_string(property_text("2.0", X, 2, EPSILON, 4, "image 7")))
    low, high = np.array(case.input_box).T
    wide = X.astype(np.float64).ravel()
    assert (low <= (wide - EPSILON).clip(0, 1)).all() and (low > (wide - EPSILON).clip(0, 1) - 1e-11).all()
    assert (high >= (wide + EPSILON).clip(0, 1)).all() and (high < (wide + EPSILON).clip(0, 1) + 1e-11).all()
    rows = {tuple(polytope.coeff_matrix[0]) for polytope in case.output_constraints}
    assert rows == {(-1.0, 0.0, 1.0, 0.0), (0.0, -1.0, 1.0, 0.0), (0.0, 0.0, 1.0, -1.0)}  # Y_2 - Y_c <= 0
    assert all(polytope.rhs == [0.0] for polytope in case.output_constraints)


def test_version_1_says_the_same() -> None:
    text = property_text("1.0", X, 2, EPSILON, 4, "image 7")
    assert text.count("(") == text.count(")")
    assert re.findall(r"^\(declare-const (\w+) Real\)$", text, re.M) == [f"X_{i}" for i in range(6)] + [
        f"Y_{c}" for c in range(4)
    ]
    bounds = re.findall(r"^\(assert \(([<>]=) X_(\d) ([0-9.]+)\)\)$", text, re.M)
    assert len(bounds) == 12
    for sign, place, value in bounds:
        exact = Decimal(float(X.ravel()[int(place)]))
        end = min(max(exact + (1 if sign == "<=" else -1) * Decimal(EPSILON), Decimal(0)), Decimal(1))
        assert (Decimal(value) >= end) if sign == "<=" else (Decimal(value) <= end)
        assert abs(Decimal(value) - end) < Decimal("1e-11")
    assert text.splitlines()[-1] == "(assert (or (and (>= Y_0 Y_2)) (and (>= Y_1 Y_2)) (and (>= Y_3 Y_2))))"


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_of_two_classes_there_is_one_other(version: str) -> None:
    assert property_text(version, X, 0, EPSILON, 2, "").splitlines()[-1].startswith("(assert (>= Y")


def test_a_counterexample_holds_every_bit_of_the_input() -> None:
    text = counterexample_text(X, np.array([0.25, -1.5], np.float32))
    pairs = re.findall(r"\(([XY])_(\d+) ([^)]+)\)", text)
    assert [np.float32(value) for name, _, value in pairs if name == "X"] == X.ravel().tolist()
    assert [value for name, _, value in pairs if name == "Y"] == ["0.25", "-1.5"]
