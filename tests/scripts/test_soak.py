"""scripts/soak: a run of two minutes comes through, and what would make it fail is told."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOUND = {
    "differences": [],
    "driver": {"growth": 0.01},
    "evaluator": {"growth": -0.2},
    "kills": {"evaluator": 4, "reconstructor": 3},
    "recovered": 7,
}


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak", ROOT / "scripts" / "soak.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"differences": ["params_sha256"]}, ["differs from the run in one process: params_sha256"]),
        ({"driver": {"growth": 0.06}}, ["the memory of the driver grew by 6.0%; 5% are allowed"]),
        ({"recovered": 5}, ["2 of 7 killed workers were not replaced"]),
        (
            {"kills": {"evaluator": 0, "reconstructor": 0}, "recovered": 0},
            ["nobody was killed: give it more --minutes"],
        ),
    ],
)
def test_what_fails_is_told(changed: dict[str, Any], told: list[str], soak: ModuleType) -> None:
    assert soak.failures(SOUND | changed) == told


def test_growth_is_that_of_the_last_quarter_over_the_first_after_the_warm_up(soak: ModuleType) -> None:
    memory = soak.Memory()
    memory.samples["one"] = [2**20] * 25 + [100 * 2**20] * 40 + [110 * 2**20] * 35  # the first 25 are the warm-up
    memory.close()
    assert memory.report("one") == {"mb_first": 100.0, "mb_last": 110.0, "growth": 0.1}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_minutes_of_faults(record_property: Callable[[str, object], None]) -> None:
    command = [str(ROOT / "scripts" / "soak"), "--minutes", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=880)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout)  # and nothing else
    record_property("figures", json.dumps(figures))
    assert figures["differences"] == figures["failures"] == []
    assert figures["workers_lost"] >= sum(figures["kills"].values()) >= 3
