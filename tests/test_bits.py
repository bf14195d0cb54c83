"""Short runs have the bits that they had when tests/bits.json was written; `tests/bits.py --check` knows longer ones too."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import call, last_json

HERE = Path(__file__).parent
QUICK = ("digits", "control es", "joint 0-1", "generator laplace", "adversarial pgd", "replayed", "verified")


def test_quick_results_are_those_of_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other in this process: what is replayed and verified is the first."""
    spec = importlib.util.spec_from_file_location("bits", HERE / "bits.py")
    assert spec is not None and spec.loader is not None
    bits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bits)
    reference = json.loads((HERE / "bits.json").read_text())
    if bits.machine() != reference["machine"]:
        pytest.skip(f"bits depend on the machine: written on {reference['machine']}, this is {bits.machine()}")

    class Here(bits.Runs):  # type: ignore[name-defined, misc]
        def command(self, *arguments: str) -> dict[str, Any]:
            return last_json(call(*arguments, "--json"))

    monkeypatch.chdir(tmp_path)
    jobs = dict(bits.jobs(Here(tmp_path), tmp_path))
    assert {name: jobs[name]() for name in QUICK} == {name: reference["results"][name] for name in QUICK}
