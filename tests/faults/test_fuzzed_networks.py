"""Networks of layers in random order, under every scheme and method: they train, or are refused in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from any_network import CLASSES, INPUTS, REFUSED, networks
from fuzzed import SEED, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from small_runs import small_config
from torch import nn

from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.checks import set_up
from glr_dist.errors import UserError

pytestmark = pytest.mark.slow  # continuous integration has time for them

WAYS: list[dict[str, Any]] = [
    *({"estimator.scheme": scheme} for scheme in ("layerwise", "joint", "flips", "joint-flips")),
    {"loss": "zero-one", "estimator.scheme": "joint"},
    {"method": "es", "noise.scale": 0.1},
    {"method": "straight-through"},
    {"method": "bp"},
    {"method": "bp-noise"},
]
_FOR_ES = ("sign weights", "gru")  # nothing but gradients are wrong with them
_NO_STEP = "no Heaviside unit whose bit could be turned"


@lru_cache
def data() -> ArrayDataset:
    rng = np.random.default_rng(0)
    x = rng.random((60, INPUTS), dtype=np.float32)
    return ArrayDataset((x, rng.integers(0, CLASSES, 60)), shards=1, classes=tuple(map(str, range(CLASSES))))


def told(model: nn.Module, way: dict[str, Any]) -> str:
    """What becomes of one step: "" where it is made, else the refusal."""
    keys = {"batch": 8, "units.rows": 4, "estimator.copies": 4, "noise.table_size": 2**12, **way}
    try:
        trainer, task = set_up(small_config(keys), model, data(), None)
        result = assemble_crew(task, small_config().engine).gradient(trainer.theta(), 0)
    except UserError as error:
        return str(error)
    assert np.isfinite(result.gradient).all()
    return ""


seen: Counter[str] = Counter()


@fuzzed(200)
@given(made=networks(), way=st.sampled_from(WAYS))
def fuzz(made: tuple[nn.Sequential, list[str]], way: dict[str, Any]) -> None:
    model, names = made
    refusal = told(model, way)
    assert "\n" not in refusal
    bad = [name for name in names if name in REFUSED and not (name in _FOR_ES and way.get("method") == "es")]
    seen["refused" if refusal else "trained"] += 1
    if bad:
        assert refusal, f"{bad[0]} is trained in silence: {names}, {way}"
    elif way.get("method") not in ("bp", "bp-noise", "straight-through"):  # those need derivatives all the way
        # behind steps some layers see one and the same number, and rightly never move
        idle = "no gradient reaches" in refusal and not {"prelu", "layer norm", "group norm"}.isdisjoint(names)
        assert not refusal or idle or _NO_STEP in refusal, f"{names}, {way}: {refusal}"


def test_networks_train_or_are_refused_in_a_line(record_property: Callable[[str, object], None]) -> None:
    record_property("networks", f"from seed {SEED}")
    with torch.random.fork_rng():
        fuzz()
    record_property("networks", dict(seen))
    assert min(seen["trained"], seen["refused"]) > 20
