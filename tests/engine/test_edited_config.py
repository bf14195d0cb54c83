"""A run goes on as it was begun: an edited config.toml is refused by name, more steps are an explicit extension."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import STEPS, contents, digits, outcome, resume_small, train_small

from glr_dist.engine.replay import replay
from glr_dist.engine.verify import verify
from glr_dist.errors import UserError
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

EDITS = {
    "noise.scale": ("scale = 1.0", "scale = 3.0"),
    "batch": ("batch = 32", "batch = 64"),
    "estimator.copies": ("copies = 8", "copies = 16"),
    "seed": ("seed = 0", "seed = 1"),
    "loss": ('loss = "cross-entropy"', 'loss = "zero-one"'),
    "method": ('method = "glr"', 'method = "bp"'),
    "optimizer.lr": ("lr = 0.003", "lr = 0.03"),
    "schedule.name": ('name = "linear"', 'name = "constant"'),
    "steps": (f"steps = {STEPS}", "steps = 20"),
    "model.hidden": ("    12,", "    12,\n    12,"),
    "optimizer.options": ("[optimizer.options]", "[optimizer.options]\namsgrad = true"),
}


@pytest.mark.parametrize("key", EDITS)
def test_what_was_edited_is_named_and_nothing_is_touched(key: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_small(folder, seconds=0.0)
    config = folder / "config.toml"
    before, after = EDITS[key]
    assert config.read_text().count(before) >= 1, config.read_text()
    config.write_text(config.read_text().replace(before, after, 1))
    there = contents(folder)
    for go_on in (resume_small, replay, verify):
        with pytest.raises(UserError, match=rf"config.toml was changed: (.*; )?{key} is .*, the run was begun with"):
            go_on(folder, data=digits())  # type: ignore[operator]
    assert contents(folder) == there


def test_a_config_and_its_record_edited_alike_are_told_by_the_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_small(folder, seconds=0.0)
    for name, before, after in (
        ("config.toml", "lr = 0.003", "lr = 0.03"),
        ("provenance.json", '"optimizer.lr": 0.003', '"optimizer.lr": 0.03'),
    ):
        file = folder / name
        file.write_text(file.read_text().replace(before, after))
    with pytest.raises(UserError, match="was made with another config than the run's is now"):
        resume_small(folder)


def test_a_run_of_an_older_version_has_no_record_to_compare(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_small(folder, seconds=0.0)
    file = folder / "provenance.json"
    said = json.loads(file.read_text())
    del said["config"], said["config_sha256"], said["id"], said["signed"]
    file.write_text(json.dumps(said))
    assert resume_small(folder).steps == STEPS


def rates(folder: Path) -> list[float]:
    return [line["lr"] for line in read_metrics(Storage.at(folder))]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "one-cycle", "step"])
def test_more_steps_are_another_leg_of_the_schedule_recorded_and_replayed(schedule: str, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"schedule.name": schedule, "schedule.every": 5}
    folder, at_once = tmp_path / "run", tmp_path / "at_once"
    train_small(folder, keys)
    with pytest.raises(UserError, match=rf"steps = {STEPS - 1}: the run has {STEPS} already"):
        resume_small(folder, overrides={"steps": STEPS - 1})
    assert resume_small(folder, overrides={"steps": STEPS + 3}, seconds=0.0).steps == STEPS + 1
    result = resume_small(folder, overrides={"steps": str(STEPS + 3)})  # again, as a script would
    assert result.steps == STEPS + 3
    assert resume_small(folder, overrides={"steps": STEPS + 6}).steps == STEPS + 6
    legs = {"steps": STEPS + 6, "schedule.legs": [STEPS, STEPS + 3]}
    train_small(at_once, keys | legs)
    assert outcome(folder)["weights"] == outcome(at_once)["weights"]
    assert rates(folder) == rates(at_once)
    assert rates(folder)[STEPS] > rates(folder)[STEPS - 1] or schedule in ("one-cycle", "step")
    audit = verify(folder, 1.0, data=digits())
    assert (audit.findings, audit.differences, audit.steps, audit.planned) == ((), (), STEPS + 6, STEPS + 6)


def test_an_interrupted_run_may_be_extended(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_small(folder, seconds=0.0)
    resume_small(folder, overrides={"steps": STEPS + 4})
    train_small(tmp_path / "at_once", {"steps": STEPS + 4, "schedule.legs": [STEPS]})
    assert outcome(folder)["weights"] == outcome(tmp_path / "at_once")["weights"]
