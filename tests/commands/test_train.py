"""``glr-dist train``: its options, exit codes and JSON line, and one line for every mistake."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, call, last_json, refused, script
from safetensors.numpy import load_file

from glr_dist.data.prepare import prepare
from glr_dist.data.shard_file import read_footer, write_file

TRAIN_KEYS = {
    "run",
    "checkpoint",
    "steps",
    "seconds",
    "test_accuracy",
    "validation_accuracy",
    "noisy_forwards",
    "noisy_forwards_per_second",
    "bytes_up",
    "bytes_down",
    "params_sha256",
}


def test_train_ends_with_one_json_object_about_what_is_on_disk(here: Path) -> None:
    result = call("train", *SMALL, "--steps", "6", "--run-dir", "run", "--json")
    report = last_json(result)
    assert set(report) >= TRAIN_KEYS
    assert len(result.stdout.splitlines()) == 1  # the table went to standard error
    assert "validation accuracy" in result.stderr
    assert report["run"] == str(here / "run")
    assert report["checkpoint"] == str(here / "run" / "checkpoints" / "step-000006")
    assert report["steps"] == 6
    # 2 sites x 32 copies x 32 examples x 6 steps; nothing crosses a wire in-process
    assert (report["noisy_forwards"], report["bytes_up"], report["bytes_down"]) == (2 * 32 * 32 * 6, 0, 0)
    weights = load_file(f"{report['checkpoint']}/weights.safetensors")
    order = ("1.weight", "1.bias", "3.weight", "3.bias")
    digest = hashlib.sha256(b"".join(weights[name].tobytes() for name in order))
    assert report["params_sha256"] == digest.hexdigest()


def test_train_prints_a_table_and_the_runs_path(here: Path) -> None:
    result = call("train", "digits-threshold", *SMALL, "--steps", "2")
    assert result.exit_code == 0
    for text in ("checkpoint", "step-000002", "test accuracy", "noisy forward passes", "bytes up", "params_sha256"):
        assert text in result.stdout
    (run,) = (here / "runs").iterdir()
    assert run.name.startswith("digits-threshold-20")
    assert result.stdout.splitlines()[-1] == f"run: {run}"


def test_options_and_settings_land_in_the_runs_config(here: Path) -> None:
    (here / "mine.toml").write_text('steps = 500\n[noise]\nfamily = "laplace"\n')
    options = ["--seed", "7", "--loss", "zero-one", "--method", "glr", "--journal", "off", "--steps", "1"]
    sets = ["--set", "noise.scale=2.0", "--set", "model.hidden=[20]", "--data-root", "~/digits"]
    assert call("train", "mine.toml", *SMALL, *options, *sets, "--run-dir", "run").exit_code == 0
    config = tomllib.loads((here / "run" / "config.toml").read_text())
    assert {key: config[key] for key in ("seed", "loss", "method", "journal", "steps")} == {
        "seed": 7,
        "loss": "zero-one",
        "method": "glr",
        "journal": "off",
        "steps": 1,
    }
    assert (config["noise"]["family"], config["noise"]["scale"]) == ("laplace", 2.0)
    assert config["model"]["hidden"] == [20]
    assert config["data"]["root"] == os.path.expanduser("~/digits")  # noqa: PTH111
    assert config["engine"]["workers"] == 0
    assert not (here / "run" / "journal").exists()


def test_an_unforeseen_error_keeps_its_traceback_and_exits_with_1(here: Path) -> None:
    code = (
        "import sys, glr_dist.engine.running as t\n"
        "def broken(*a, **k): raise RuntimeError('out of luck')\n"
        "t.open_dataset = broken\nfrom glr_dist.cli import main\nmain(['train', '--workers', '0'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "RuntimeError: out of luck"


def test_exit_code_2_reaches_the_shell_without_a_traceback(here: Path) -> None:
    done = subprocess.run(script("train", "mnist-treshold"), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "did you mean 'mnist-threshold'?" in done.stderr


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["mnist-treshold"], ["'mnist-treshold'", "did you mean 'mnist-threshold'?"]),
        (["none.toml"], ["none.toml", "no such file"]),
        (["--set", "noise.scal=1"], ["'noise.scal'", "did you mean 'noise.scale'?"]),
        (["--set", "noise.scale"], ["--set", "KEY=VALUE"]),
        (["--set", "noise.scale=wide"], ["noise.scale = 'wide'", "a number"]),
        (["--set", "steps=5", "--steps", "6"], ["steps", "twice"]),
        (["--set", "model.activation=step"], ["model.activation", "'step'"]),
        (["--journal", "yes"], ["journal = 'yes'", "auto, off, on"]),
        (["--steps", "many"], ["--steps", "'many'"]),
        (["--seconds", "0"], ["--seconds", "0"]),
        (["--workers", "-7"], ["engine.workers = -7"]),
        (["--worker", "2"], ["--worker"]),
        (["--augment-share", "0.3"], ["augment.share = 0.3", "changes nothing without --augment fgsm or pgd"]),
        (["--augment", "fgsm", "--set", "augment.steps=3"], ["augment.steps = 3", "without --augment pgd"]),
        (["--method", "straight-through", "--set", "estimator.copies=8"], ["estimator.copies = 8", "changes nothing"]),
        (["--set", "estimator.base_draws=4"], ["estimator.base_draws = 4", "estimator.scheme = 'flips'"]),
        (["--method", "bp"], ["method = 'bp'", "model.activation=relu"]),
        (["mnist-sigmoid", "--data-root", "empty"], ["--data-root", "empty", "no mnist"]),
        (["--set", "data.name=parquet"], ["data.root", "--data-root"]),
        (["--set", "data.name=parquet", "--data-root", "empty"], ["--data-root", "holds no training shards"]),
        (["--set", "data.name=parquet", "--data-root", "none"], ["--data-root", "is not a folder"]),
        (["--set", "data.name=parquet", "--data-root", "wrong"], ["label 99", "0 to 9"]),
        (["--run-dir", "full"], ["--run-dir", "full", "--resume"]),
        (["--resume", "none"], ["none", "not a run"]),
        (["--resume", "empty"], ["empty", "config.toml"]),
        (["digits-threshold", "--resume", "full"], ["PRESET", "--resume"]),
        (["--run-dir", "new", "--resume", "full"], ["--run-dir", "--resume"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_train_refuses_what_cannot_be(here: Path, args: list[str], mentions: list[str]) -> None:
    (here / "empty").mkdir()
    (here / "full").mkdir()
    (here / "full" / "thesis.tex").write_text("do not lose me")
    shards = prepare("digits", str(here / "wrong"), shards=1)
    file = here / "wrong" / "train-00000-of-00001.parquet"
    labels = np.zeros(shards["rows"]["train"], np.int64)
    labels[3] = 99
    write_file(file, np.zeros((len(labels), 1, 8, 8), np.uint8), labels, read_footer(file)[0])
    before = sorted(here.rglob("*"))
    workers = [] if "--resume" in args or "--workers" in args else ["--workers", "0"]
    refused(call("train", *args, *workers), *mentions)
    assert sorted(here.rglob("*")) == before


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["--workers", "1000"], ["--workers 1000", "1000 CPUs", "has 4 CPUs"]),
        (["--workers", "1", "--gpus-per-worker", "64"], ["--gpus-per-worker 64", "64 GPUs"]),
        (["--workers", "2", "--reconstructors", "3"], ["--reconstructors 3", "5 CPUs", "has 4 CPUs"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_more_than_the_cluster_has_is_refused_at_once(here: Path, args: list[str], mentions: list[str]) -> None:
    started = time.monotonic()
    refused(call("train", *args), *mentions)
    assert time.monotonic() - started < 20
    assert list(here.iterdir()) == []


def test_adversarial_rows_from_the_command_line(here: Path) -> None:
    """A surrogate's relative folder becomes an absolute one: the run may be resumed from elsewhere."""
    for arguments in (
        ("--method", "bp", "--set", "model.activation=relu", "--run-dir", "bp"),
        ("--augment", "fgsm", "--run-dir", "twin"),
        (
            "--augment",
            "fgsm",
            "--augment-share",
            "0.25",
            "--augment-epsilon",
            "0.2",
            "--surrogate",
            "bp",
            "--run-dir",
            "x",
        ),
    ):
        assert call("train", *SMALL, "--steps", "2", *arguments).exit_code == 0
    augment = tomllib.loads((here / "x" / "config.toml").read_text())["augment"]
    expected = {"attack": "fgsm", "share": 0.25, "epsilon": 0.2, "surrogate": str(here / "bp")}
    assert {key: augment[key] for key in expected} == expected
    for arguments, mentions in (
        (("--augment", "fgsm", "--surrogate", "twin"), ("no gradient; use a --method bp run",)),
        (("--augment", "fgsm", "--surrogate", "gone"), ("there is no checkpoint at", "gone")),
        (("--generators", "1"), ("engine.generators = 1", "add --augment fgsm")),
    ):
        refused(call("train", *SMALL, *arguments), *mentions)
    (here / "bp").rename(here / "moved")
    for command in ("replay", "verify"):
        refused(call(command, "x"), "--surrogate: there is no checkpoint at", str(here / "bp"))
        assert call(command, "x", "--surrogate", "moved").exit_code == 0
