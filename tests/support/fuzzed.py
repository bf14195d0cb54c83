"""How much is fuzzed, and from which seed: a fresh one each time, printed with the tests' figures.

``GLR_DIST_FUZZ_SEED=N`` repeats a seed, ``GLR_DIST_FUZZ=25`` tries 25 times as many examples.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import Any

import hypothesis

SEED = int(os.environ.get("GLR_DIST_FUZZ_SEED") or secrets.randbits(32))


def fuzzed(examples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A test of so many examples, from the seed."""
    settings = hypothesis.settings(
        max_examples=examples * int(os.environ.get("GLR_DIST_FUZZ", "1")),
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],  # an example says enough of itself, and shrinking takes minutes
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        decorated: Callable[..., Any] = hypothesis.seed(SEED)(settings(test))
        return decorated

    return decorate
