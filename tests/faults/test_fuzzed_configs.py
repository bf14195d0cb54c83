"""Keys and values of all kinds through the three doors: a config that loads again and says the same, or one line."""

from __future__ import annotations

import dataclasses
import typing
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from fuzzed import SEED, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from glr_dist.config import Config, config_toml, load_config, parse_config, preset_names
from glr_dist.errors import UserError
from glr_dist.settings import override

pytestmark = pytest.mark.slow  # continuous integration has time for them


def keys_of(cls: type, prefix: str = "") -> list[str]:
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        found += keys_of(kind, f"{prefix}{field.name}.") if dataclasses.is_dataclass(kind) else [prefix + field.name]
    return found


KEYS = [*keys_of(Config), "optimizer.options.betas", "optimizer.options.momentum", "noise", "augment.refresh"]
WORDS = [
    "glr",
    "es",
    "bp",
    "joint",
    "flips",
    "zero-one",
    "laplace",
    "mlp",
    "conv",
    "factory",
    "m:f",
    "pgd",
    "adam",
    "on",
]
plain = st.one_of(
    st.integers(-3, 200),
    st.integers(),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 10**40, -(2**63)]),
    st.floats(),
    st.sampled_from([0.0, 0.5, 1e-45, 1e308]),
    st.booleans(),
    st.sampled_from(WORDS),
    st.text(max_size=6),
)
tomls = st.one_of(plain, st.lists(plain, max_size=3), st.dictionaries(st.text(max_size=3), plain, max_size=2))
pythons = st.one_of(
    tomls,
    st.none(),
    st.floats(allow_nan=False).map(np.float64),
    st.integers(-5, 300).map(np.int32),
    st.floats(width=32).map(np.float32),
    st.booleans().map(np.bool_),
    st.floats(0, 1).map(torch.tensor),
    st.binary(max_size=3),
    st.tuples(plain, plain),
    st.just(PurePosixPath("there")),
    st.just(object()),
    st.text(st.characters(), max_size=3),
)
seen: Counter[str] = Counter()


def held(make: Callable[[], Config], door: str) -> Config | None:
    """A config that loads again from its own text, or None where it was refused in a line."""
    try:
        config = make()
    except UserError as error:
        refusal = str(error)
        config = None
    if config is None:
        assert "\n" not in refusal and refusal, refusal
        seen[f"{door}: refused"] += 1
        return None
    assert parse_config(config_toml(config)) == config
    seen[f"{door}: taken"] += 1
    return config


def nested(key: str, value: Any) -> dict[str, Any]:
    *above, last = key.split(".")
    tree = {last: value}
    for name in reversed(above):
        tree = {name: tree}
    return tree


@fuzzed(400)
@given(key=st.sampled_from(KEYS), value=tomls)
def fuzz_toml(key: str, value: Any) -> None:
    try:
        text = tomli_w.dumps(nested(key, value))
        text.encode()
    except (TypeError, ValueError):
        return
    held(lambda: parse_config(text), "TOML")


@fuzzed(500)
@given(
    key=st.sampled_from(KEYS), text=st.one_of(plain.map(str), st.text(max_size=8), st.lists(plain, max_size=3).map(str))
)
def fuzz_set(key: str, text: str) -> None:
    def make() -> Config:
        name, value = override(f"{key}={text}")
        return load_config("digits-threshold", {name: value})

    held(make, "--set")


@fuzzed(400)
@given(key=st.sampled_from(KEYS), value=pythons, preset=st.sampled_from(preset_names()))
def fuzz_python(key: str, value: Any, preset: str) -> None:
    part, _, name = key.partition(".")
    base = load_config(preset)
    if "." in name or key == "augment.refresh":
        part, value = "optimizer", dataclasses.replace(base.optimizer, options={"betas": value})
    elif name:
        value = dataclasses.replace(getattr(base, part), **{name: value})
    held(lambda: dataclasses.replace(base, **{part: value}), "Python")
    held(lambda: load_config(preset, {key: value}), "overrides")


@fuzzed(200)
@given(text=st.one_of(st.text(max_size=40), st.binary(max_size=20).map(lambda data: data.decode("latin-1"))))
def fuzz_text(text: str) -> None:
    held(lambda: parse_config(text), "text")


def test_every_door_takes_a_config_that_loads_again_or_says_why_not_in_a_line(
    record_property: Callable[[str, object], None],
) -> None:
    record_property("configs", f"from seed {SEED}")
    for fuzz in (fuzz_toml, fuzz_set, fuzz_python, fuzz_text):
        fuzz()
    record_property("configs", dict(seen))
    assert min(seen[f"{door}: {end}"] for door in ("TOML", "--set", "Python") for end in ("taken", "refused")) > 20
