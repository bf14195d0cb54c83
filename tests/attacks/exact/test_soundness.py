"""Verdicts against an oracle in rational numbers: no network, whatever its weights, gets a proof that does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from rational import class_at, float32_near, inside, made, points

from glr_dist.attacks.exact.search import verify
from glr_dist.errors import UserError


def unsound(seed: int, number: int) -> tuple[str, str]:
    """The verdict on one network, and what is wrong with it ("": nothing)."""
    rng = np.random.default_rng([seed, number])
    model, x, epsilon = made(rng)
    label = int(model(torch.from_numpy(x)[None]).argmax())
    if rng.random() < 0.05:
        label = int(rng.integers(len(model[3].bias)))  # type: ignore[arg-type, union-attr]
    verdict = verify(model, x, label, epsilon, seconds=10)
    found = list(points(model, x, epsilon))
    fault = ""
    if verdict.status == "broken":
        assert verdict.adversary is not None
        if not inside(verdict.adversary, x, epsilon):
            fault = "its adversary lies outside the ball"
        elif int(model(torch.from_numpy(verdict.adversary)[None]).argmax()) == label:
            fault = "its adversary fools nobody"
    elif verdict.status == "robust":
        if any(class_at(model, point) != label for point in found):
            fault = "a point of the ball has another class"
        elif (model(torch.from_numpy(float32_near(found, x, epsilon))).argmax(1) != label).any():
            fault = "a float32 input of the ball has another class"
    return verdict.status, fault and f"{verdict.status}, but {fault}: seed {seed}, number {number}"


@pytest.mark.parametrize("count", [300, pytest.param(6000, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])])
def test_no_verdict_is_unsound(count: int, record_property: Callable[[str, object], None]) -> None:
    seed = int(np.random.SeedSequence().entropy) % 2**32 if count > 1000 else 0  # type: ignore[arg-type, operator]
    verdicts = [unsound(seed, number) for number in range(count)]
    assert [fault for _, fault in verdicts if fault] == []
    seen = Counter(status for status, _ in verdicts)
    record_property("verdicts", f"of seed {seed}: {dict(seen)}")
    assert min(seen["robust"], seen["broken"]) >= count / 10


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("number", range(8))
def test_a_network_with_a_value_that_is_not_finite_gets_no_verdict(value: float, number: int) -> None:
    model, x, epsilon = made(np.random.default_rng(number))
    name, values = list(model.named_parameters())[number % 4]
    values.view(-1)[0] = value
    with pytest.raises(UserError, match=rf"exact: parameter '{name}' is not finite \(1 of "):
        verify(model, x, 0, epsilon, seconds=1)


def test_a_network_whose_sums_overflow_in_float32_gets_no_verdict() -> None:
    model, x, epsilon = made(np.random.default_rng(0))
    model[3].weight.fill_(2e38)  # type: ignore[operator, union-attr]
    with pytest.raises(UserError, match=r"exact: sums of the network's weights reach .*; scale them down"):
        verify(model, x, 0, epsilon, seconds=1)
