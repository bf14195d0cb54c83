"""A ninth attack is one class: registered, it is reached by the command line, reported, drawn and judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import SMALL, call, last_json
from torch import Tensor

from glr_dist.attacks.attack import ATTACKS, Attack, Attacked, attacking, register
from glr_dist.attacks.ball import Logits, project


@dataclass(frozen=True, kw_only=True)
class Darkness(Attack):
    """All pixels as dark as the ball lets them be."""

    name = "darkness"
    knowledge = "labels"

    draws: int = 1  # a setting whose option is there

    @property
    def words(self) -> str:
        return "no light"

    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        with attacking(self, logits, x, labels):
            return Attacked(x=project(torch.zeros_like(x), x, self.epsilon))


@pytest.fixture
def ninth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTACKS, "darkness", Darkness)  # taken out again after the test
    assert register(Darkness) is Darkness


def test_a_ninth_attack_needs_no_change_anywhere_else(
    ninth: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train", *SMALL, "--steps", "3", "--run-dir", "run").exit_code == 0
    sizes = ["--epsilon", "0.1", "--epsilon", "1", "--draws", "2"]
    attacks = ["--attack", "darkness", "--attack", "random-signs"]
    result = call(
        *("evaluate", "run", *attacks, *sizes, "--count", "40", "--workers", "0", "--out", "report", "--json")
    )
    report = last_json(result)
    rows = [row for row in report["attacks"] if row["attack"] == "darkness"]
    assert [(row["epsilon"], row["settings"], row["knowledge"]) for row in rows] == [
        (0.1, "no light", "labels"),
        (1.0, "no light", "labels"),
    ]
    assert [row["attack"] for row in report["attacks"]] == ["none", *["random-signs"] * 2, *["darkness"] * 2]
    compared = {verdict["rule"]: verdict["holds"] for verdict in report["verdicts"]}
    assert compared["random noise weaker than any attack"] is not None
    assert compared["success grows with eps"] is not None
    assert compared["success reaches 100%"] is not None
    assert "darkness" in result.stderr  # the table
    page = (tmp_path / "report" / "report.md").read_text()
    assert "darkness (no light)" in page
    drawn = [file.name for file in (tmp_path / "report" / "pictures").iterdir()]
    assert "accuracy.png" in drawn
    assert any("darkness" in name for name in drawn)
    made = last_json(call("attack", "run", "--attack", "darkness", "--count", "20", "--workers", "0", "--json"))
    (one,) = made["sets"]
    assert json.loads((tmp_path / one["out"] / "meta.json").read_text())["attack"] == {
        "name": "darkness",
        "epsilon": 0.1,
        "draws": 1,
    }
    stored = last_json(call("evaluate", "run", "--samples", one["out"], "--workers", "0", "--json"))
    assert stored["attacks"][-1]["settings"] == "no light"
