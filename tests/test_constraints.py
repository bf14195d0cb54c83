"""The pinned versions against the project's declared ranges and the installed packages' own metadata."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def _declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]


def _needed(requirements: list[Requirement]) -> set[str]:
    """The names of the requirements and of all that they pull in on this machine."""
    seen: set[tuple[str, str]] = set()
    todo = [(canonicalize_name(r.name), extra) for r in requirements for extra in ["", *r.extras]]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for requirement in map(Requirement, metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(requirement.name), wanted) for wanted in ["", *requirement.extras]]
    return {name for name, _ in seen}


@pytest.mark.parametrize("requirement", _declared(), ids=str)
def test_pin_lies_in_declared_range(requirement: Requirement) -> None:
    assert _pins()[canonicalize_name(requirement.name)] in requirement.specifier


def test_every_transitive_package_is_pinned() -> None:
    needed = _needed(_declared())
    assert {"ray", "torch", "aiohttp", "markupsafe"} <= needed  # two declared, two found on the way
    assert needed - _pins().keys() == set()
