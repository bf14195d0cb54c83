"""``glr-dist train --resume``: after Ctrl-C, a time limit or a crash; a harmed run is refused and left alone."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import SMALL, call, last_json, refused, script
from harm import cut_short, lacks_a_file, no_checkpoint, no_whole_checkpoint
from small_runs import contents


def test_seconds_end_a_run_with_a_checkpoint_and_resume_goes_on(here: Path) -> None:
    report = last_json(call("train", *SMALL, "--steps", "40", "--seconds", "0.001", "--run-dir", "run", "--json"))
    assert report["steps"] == 1
    assert (here / "run" / "checkpoints" / "step-000001").is_dir()
    whole = last_json(call("train", *SMALL, "--steps", "40", "--run-dir", "whole", "--json"))
    resumed = last_json(call("train", "--resume", "run", "--json"))
    assert (resumed["steps"], resumed["params_sha256"]) == (40, whole["params_sha256"])


def test_ctrl_c_leaves_a_checkpoint_and_resume_ends_where_the_whole_run_does(here: Path) -> None:
    args = ["train", *SMALL, "--steps", "150", "--set", "checkpoint_every=20"]
    child = subprocess.Popen(
        script(*args, "--run-dir", "cut", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = here / "cut" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 5) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "interrupted; continue with: glr-dist train --resume cut"
    assert "Traceback" not in err
    stopped = int(sorted((here / "cut" / "checkpoints").iterdir())[-1].name.removeprefix("step-"))
    assert 5 <= stopped < 150
    whole = last_json(call(*args, "--run-dir", "whole", "--json"))
    resumed = last_json(call("train", "--resume", "cut", "--json"))
    assert (resumed["steps"], resumed["params_sha256"]) == (150, whole["params_sha256"])


def test_an_interruption_before_the_run_begins_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("glr_dist.engine.running.open_dataset", interrupted)
    result = call("train", *SMALL)
    assert (result.exit_code, result.stdout) == (130, "")
    assert "nothing to resume" in result.stderr
    assert list(here.iterdir()) == []


def test_a_run_stopped_before_its_first_checkpoint_resumes_from_its_beginning(own: Path) -> None:
    whole = last_json(call("evaluate", str(own), "--json"))
    no_checkpoint(own)
    resumed = last_json(call("train", "--resume", str(own), "--json"))
    assert resumed["params_sha256"] == whole["params_sha256"]


@pytest.mark.parametrize(
    ("args", "mention"),
    [
        (["--seed", "1"], "seed: can't change"),
        (["--steps", "9"], "steps = 9: the run has 20 already"),
        (["--set", "noise.scale=2"], "noise.scale: can't change"),
        (["--journal", "off"], "journal: can't change"),
    ],
)
def test_a_resumed_run_keeps_what_defines_it(trained: Path, args: list[str], mention: str) -> None:
    refused(call("train", "--resume", str(trained), *args), mention)


@pytest.mark.parametrize(
    ("harm", "mentions"),
    [
        (cut_short, ["cut short", "weights.safetensors", "step-000010"]),
        (lacks_a_file, ["cut short", "training.pt", "step-000010"]),
        (no_whole_checkpoint, ["has no complete checkpoint yet"]),
    ],
)
def test_resume_refuses_a_harmed_run_and_leaves_it_alone(
    own: Path, harm: Callable[[Path], None], mentions: list[str]
) -> None:
    harm(own)
    before = contents(own)
    refused(call("train", "--resume", str(own)), *mentions)
    assert contents(own) == before


def test_a_finished_run_is_told_of_and_left_alone(trained: Path) -> None:
    before = contents(trained)
    result = call("train", "--resume", str(trained), "--json")
    assert "is finished: it has done its 20 steps; for more give --resume" in result.stderr
    assert last_json(result)["steps"] == 20
    assert contents(trained) == before


def test_weights_of_another_run_patience_and_keep_from_the_command_line(trained: Path, here: Path) -> None:
    options = [
        "--steps",
        "30",
        "--set",
        "validate_every=2",
        "--set",
        "checkpoint_every=2",
        "--set",
        "optimizer.lr=1e-9",
    ]
    result = call(
        "train", *SMALL, *options, "--init-from", str(trained), "--patience", "3", "--keep", "1", "--run-dir", "x"
    )
    assert result.exit_code == 0, result.stderr
    assert "8, ended by patience" in result.stdout  # the accuracy of step 2, which no later one betters
    assert "best checkpoint" in result.stdout
    assert sorted(path.name for path in (here / "x/checkpoints").iterdir()) == [
        "step-000000",
        "step-000002",
        "step-000008",
    ]
    said = json.loads((here / "x/result.json").read_text())
    assert said["command"].startswith("glr-dist train ")
    assert f"--init-from {trained} --patience 3" in said["command"]
    refused(call("train", *SMALL, "--patience", "3", "--set", "validate_every=0"), "patience = 3", "validate_every = 0")
    refused(call("train", *SMALL, "--init-from", "none"), "--init-from", "there is no checkpoint at")


def test_a_replayed_step_can_be_kept_and_evaluated(trained: Path, here: Path) -> None:
    replayed = last_json(call("replay", str(trained), "--to", "7", "--out", "seven", "--json"))
    found = last_json(call("evaluate", "seven", "--json"))
    assert found["params_sha256"] == replayed["params_sha256"]
    assert found["checkpoint"] == str(here / "seven/checkpoints/step-000007")
    refused(call("replay", str(trained), "--out", "seven"), "--out seven: exists already", "give a new folder")
