"""``glr-dist tune``: its table, JSON line and file, and one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from command_line import SMALL, call, last_json, refused, script

from glr_dist.config import load_config

QUICK = [*SMALL[2:], "--set", "steps=40", "--set", "estimator.copies=8"]  # without its --workers 0
FOOLISH = ["--set", "optimizer.lr=3", "--set", "noise.scale=30"]


def test_it_ends_with_one_json_object_about_the_file_that_train_takes(here: Path) -> None:
    (here / "mine.toml").write_text("[data]\nname = 'digits'\nshards = 2\n")
    options = ["--seconds", "300", "--configs", "4", "--seed", "3", "--try", "estimator.copies=4,16"]
    result = call("tune", "mine.toml", *QUICK, *FOOLISH, *options, "--out", "new/better.toml", "--json")
    report = last_json(result)
    assert len(result.stdout.splitlines()) == 1  # the tables went to standard error
    for text in ("0 (as given)", "copies", "as given", "optimizer.lr", "3.0 -> ", "config: "):
        assert text in result.stderr
    assert report["out"] == str(here / "new" / "better.toml")
    assert report["validation_accuracy"] > report["start_validation_accuracy"]
    assert set(report["values"]) == {"optimizer.lr", "noise.scale", "estimator.copies"}
    assert report["configs"] == 4
    assert report["interrupted"] is False
    assert len((here / "new" / "better.jsonl").read_text().splitlines()) == report["trials"]
    config = load_config("new/better.toml")
    assert (config.seed, config.batch, config.steps) == (3, 32, report["steps"])
    assert config.estimator.copies == report["values"]["estimator.copies"] in (4, 16)
    trained = last_json(
        call("train", "new/better.toml", "--steps", "5", "--workers", "0", "--run-dir", "run", "--json")
    )
    assert trained["steps"] == 5
    refused(
        call("tune", "mine.toml", *QUICK, *options, "--out", "new/better.toml"),
        "--out new/better.toml",
        "choose another",
    )


def test_the_file_has_a_name_of_its_own_where_none_is_given(here: Path) -> None:
    result = call("tune", "digits-threshold", *QUICK, "--seconds", "300", "--configs", "1")
    assert result.exit_code == 0, result.stderr
    (config, log) = sorted((here / "tuned").iterdir(), key=lambda path: path.suffix, reverse=True)
    assert config.name.startswith("digits-threshold-20")
    assert log.name == f"{config.stem}.jsonl"
    assert result.stdout.splitlines()[-1] == f"config: {config}"
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (line["number"], line["values"], line["fault"]) == (0, {}, "")


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        ([], ["--seconds"]),
        (["--seconds", "0"], ["--seconds", "0"]),
        (["mnist-treshold", "--seconds", "5"], ["did you mean 'mnist-threshold'?"]),
        (["--seconds", "5", "--workers", "-2"], ["--workers -2"]),
        (["--seconds", "5", "--configs", "0"], ["--configs 0", "at least 1"]),
        (["--seconds", "5", "--try", "noise.scale=1:x"], ["--try noise.scale=1:x", "write numbers"]),
        (["--seconds", "5", "--try", "noise.scale=2:1"], ["--try noise.scale=2.0:1.0", "the lower one first"]),
        (["--seconds", "5", "--try", "noise.scal"], ["--try noise.scal", "can't be tried"]),
        (["--seconds", "5", "--out", "better"], ["--out better", ".toml"]),
        (["--seconds", "5", "--set", "data.validation=0"], ["data.validation", "validation split"]),
        (["mnist-sigmoid", "--seconds", "5", "--data-root", "empty"], ["--data-root", "empty", "no mnist"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_is_refused(here: Path, args: list[str], mentions: list[str]) -> None:
    (here / "empty").mkdir()
    refused(call("tune", *args), *mentions)
    assert [path.name for path in here.iterdir()] == ["empty"]


def test_when_interrupted_the_best_so_far_is_written(here: Path) -> None:
    """After its first line, which tells of a trial that is done."""
    command = script("tune", *SMALL[2:], "--set", "steps=100000", "--seconds", "15", "--out", "x.toml")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        log = here / "x.jsonl"
        while running.poll() is None and not log.exists():
            time.sleep(0.02)
        running.terminate()
        out, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert out.splitlines()[-1] == f"config: {here / 'x.toml'}"
    assert load_config("x.toml").batch == 32
