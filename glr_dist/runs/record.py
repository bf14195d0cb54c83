"""What a run was begun with, kept beside its config.toml: a change of it afterwards is named, or is an explicit extension.

Values of a config are told by their dotted keys, as JSON has them. Keys in `FREE` are left out: they may change from one
resumption to the next without a changed bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glr_dist.config import PLACES, Config
from glr_dist.errors import UserError

_CREW = tuple(f"engine.{key}" for key in ("workers", "reconstruct", "reconstructors", "generators", "in_flight"))
FREE = (*PLACES, *_CREW, "evaluate_every", "diagnose_every", "keep", "patience")
_ADDED = {  # keys that older versions had not, with the value that changes nothing: a run of theirs goes on
    "augment.shift": 0,
    "certify.epsilon": 0.0,
    "certify.ramp": 0.4,
    "certify.mix": 0.0,
    "engine.device": "cpu",
    "model.input_thresholds": [],
}
_MISSING = "nothing"


def fixed_values(config: Config) -> dict[str, Any]:
    """What must not change, by dotted key."""
    return {key: value for key, value in _flat(dataclasses.asdict(config), "") if key not in FREE}


def config_sha256(config: Config) -> str:
    """SHA-256 (hex) of what must not change."""
    values = {key: value for key, value in fixed_values(config).items() if key not in _ADDED or value != _ADDED[key]}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def history(config: Config) -> Iterator[Config]:
    """The configs that a run had, up to this one: a longer one after each extension."""
    legs = (*config.schedule.legs, config.steps)
    for number, steps in enumerate(legs):
        schedule = dataclasses.replace(config.schedule, legs=legs[:number])
        yield dataclasses.replace(config, steps=steps, schedule=schedule)


def extended(config: Config, steps: int) -> Config:
    """The config of a run that goes on to so many steps, through its learning rate's schedule once more.

    Raises:
        UserError: they are no more than before.
    """
    if steps <= config.steps:
        raise UserError(
            f"steps = {steps}: the run has {config.steps} already; give a larger number, or leave --steps out"
        )
    schedule = dataclasses.replace(config.schedule, legs=(*config.schedule.legs, config.steps))
    return dataclasses.replace(config, steps=steps, schedule=schedule)


def changes(recorded: Mapping[str, Any], config: Config) -> list[str]:
    """Where a config is not what was recorded of it, nor an extension of that: a line for each key."""
    now = [fixed_values(each) for each in history(config)]
    keys = {key for key in recorded if key not in FREE}
    # a version that knows more keys than the one that recorded: they have the values that changed nothing then
    if any(all(recorded[key] == values.get(key, _MISSING) for key in keys) for values in now):
        return []
    return [
        f"{key} is {now[-1].get(key, _MISSING)!r}, the run was begun with {recorded[key]!r}"
        for key in sorted(keys)
        if recorded[key] != now[-1].get(key, _MISSING)
    ]


def refuse_edited(found: Sequence[str], place: str) -> None:
    """Raise UserError for the `changes` of a config that lies at a place."""
    if found:
        raise UserError(
            f"{place} was changed: {'; '.join(found)}; put that back, or start a new run (for more steps, give --resume"
            " RUN --steps N)"
        )


def _flat(tree: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    """The values of a config's tables by their dotted keys."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and not above:
            yield from _flat(value, f"{key}.")
        else:
            yield above + key, list(value) if isinstance(value, tuple) else value
