"""The command line as scripts rely on it: options, exit codes, the JSON line, Ctrl-C, and one line for every mistake."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.numpy import load_file
from scipy.special import log_softmax
from torch import nn

import glr_dist
from glr_dist.cli import main
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.dataset import DataConfig, open_dataset
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
SMALL = ["--workers", "0", "--set", "batch=32", "--set", "units.rows=16", "--set", "noise.table_size=65536"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared shards of all these tests, and of their child processes."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps with checkpoints at 10 and 20; not to be written to."""
    run = tmp_path_factory.mktemp("trained") / "run"
    result = call("train", *SMALL, "--steps", "20", "--set", "checkpoint_every=10", "--run-dir", str(run))
    assert result.exit_code == 0, result.stderr
    return run


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be written to."""
    return Path(shutil.copytree(trained, tmp_path / "own"))


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def last_json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def refused(result: Result, *mentions: str) -> None:
    """Exit code 2, nothing on standard output, one line on standard error that mentions all that."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for text in mentions:
        assert text in result.stderr


def script(*args: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "glr_dist.cli", *args]


# --- what there is ---


def test_help_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\nfrom glr_dist.cli import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'ray', 'numpy', 'pyarrow', 'rich'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_help_names_every_option_that_scripts_rely_on() -> None:
    text = call("train", "--help").stdout
    for option in (
        *(
            "--data-root",
            "--workers",
            "--reconstructors",
            "--gpus-per-worker",
            "--method",
            "--loss",
            "--seed",
        ),
        *("--steps", "--seconds", "--run-dir", "--resume", "--journal", "--set", "--json"),
    ):
        assert f"{option} " in text, option
    text = call("evaluate", "--help").stdout
    for option in ("--dataset", "--data-root", "--split", "--votes", "--trust-model", "--json"):
        assert f"{option} " in text, option


def test_the_version() -> None:
    assert call("--version").stdout == f"glr-dist, version {glr_dist.__version__}\n"


def test_without_a_command_the_help_comes_and_the_exit_code_is_2() -> None:
    result = call()
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage:")
    assert "train" in result.stderr


def test_presets_are_listed_with_what_they_are_and_printed_whole() -> None:
    listed = call("presets").stdout
    for name in ("digits-threshold", "mnist-threshold", "mnist-sigmoid-zero-one", "mnist-conv"):
        assert name in listed
    assert "Handwritten digits" in listed
    assert tomllib.loads(call("presets", "mnist-zero-one").stdout)["loss"] == "zero-one"


# --- train ---


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
    for text in (
        "checkpoint",
        "step-000002",
        "test accuracy",
        "noisy forward passes",
        "bytes up",
        "params_sha256",
    ):
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


def test_seconds_end_a_run_with_a_checkpoint_and_resume_goes_on(here: Path) -> None:
    report = last_json(call("train", *SMALL, "--steps", "40", "--seconds", "0.001", "--run-dir", "run", "--json"))
    assert report["steps"] == 1
    assert (here / "run" / "checkpoints" / "step-000001").is_dir()
    whole = last_json(call("train", *SMALL, "--steps", "40", "--run-dir", "whole", "--json"))
    resumed = last_json(call("train", "--resume", "run", "--json"))
    assert (resumed["steps"], resumed["params_sha256"]) == (40, whole["params_sha256"])


def test_a_finished_run_resumes_to_itself(own: Path, trained: Path) -> None:
    report = last_json(call("train", "--resume", str(own), "--json"))
    assert report["steps"] == 20
    assert (own / "metrics.jsonl").read_bytes() == (trained / "metrics.jsonl").read_bytes()


def test_back_propagation_goes_through_the_same_command(here: Path) -> None:
    args = ["--method", "bp", "--set", "model.activation=relu", "--steps", "30", "--run-dir", "run", "--json"]
    report = last_json(call("train", *SMALL, *args))
    assert report["noisy_forwards"] == 0
    assert report["test_accuracy"] > 0.5


def test_a_model_factory_of_the_current_folder_is_trained_and_needs_trust_to_be_evaluated(here: Path) -> None:
    (here / "mynet.py").write_text(
        "from torch import nn\n"
        "def build(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    factory = ["--set", "model.kind=factory", "--set", "model.factory=mynet:build"]
    report = last_json(call("train", *SMALL, *factory, "--steps", "2", "--run-dir", "run", "--json"))
    refused(call("evaluate", "run"), "mynet:build", "--trust-model")
    assert last_json(call("evaluate", "run", "--trust-model", "--json"))["accuracy"] == report["test_accuracy"]


# --- interruption and failure ---


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

    monkeypatch.setattr("glr_dist.engine.preparation.open_dataset", interrupted)
    result = call("train", *SMALL)
    assert (result.exit_code, result.stdout) == (130, "")
    assert "nothing to resume" in result.stderr
    assert list(here.iterdir()) == []


def test_an_unforeseen_error_keeps_its_traceback_and_exits_with_1(here: Path) -> None:
    code = (
        "import sys, glr_dist.engine.preparation as t\n"
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


# --- evaluate ---


def test_evaluate_agrees_with_the_network_written_out_in_numpy(trained: Path) -> None:
    report = last_json(call("evaluate", str(trained), "--json"))
    assert set(report) >= {"accuracy", "loss", "n", "params_sha256"}
    weights = load_file(trained / "checkpoints" / "step-000020" / "weights.safetensors")
    ((x, labels),) = open_dataset(DataConfig(name="digits", shards=2)).batches("test", 10_000)
    z = x.flatten(1).double().numpy() @ weights["1.weight"].T.astype(float) + weights["1.bias"]
    logits = (z >= 0) @ weights["3.weight"].T.astype(float) + weights["3.bias"]
    right = logits.argmax(1) == labels.numpy()
    loss = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels.numpy()].mean()
    assert report["n"] == len(labels) == 359
    assert report["accuracy"] == pytest.approx(right.mean(), abs=1e-12)
    assert report["loss"] == pytest.approx(loss, rel=1e-5)
    assert report["loss_name"] == "cross-entropy"
    assert "votes" not in report


def test_evaluate_finds_what_training_reported(here: Path) -> None:
    report = last_json(call("train", *SMALL, "--steps", "15", "--run-dir", "run", "--json"))
    for split in ("test", "validation"):
        measured = last_json(call("evaluate", report["checkpoint"], "--split", split, "--json"))
        assert measured["accuracy"] == report[f"{split}_accuracy"]
        assert measured["params_sha256"] == report["params_sha256"]


def test_votes_of_vanishing_noise_are_the_clean_network(here: Path) -> None:
    assert call("train", *SMALL, "--set", "noise.scale=1e-6", "--steps", "5", "--run-dir", "run").exit_code == 0
    report = last_json(call("evaluate", "run", "--votes", "3", "--json"))
    assert report["votes"] == 3
    assert report["noisy_accuracy"] == report["accuracy"]
    assert report["noisy_loss"] == pytest.approx(report["loss"], rel=1e-3)


def test_noisy_votes_are_the_same_every_time_and_lose_to_the_clean_network_in_mean_loss(
    trained: Path,
) -> None:
    first, second = (last_json(call("evaluate", str(trained), "--votes", "4", "--json")) for _ in range(2))
    assert first == second
    assert first["noisy_loss"] > first["loss"]


def test_evaluate_takes_an_older_checkpoint_by_its_folder(trained: Path) -> None:
    old = trained / "checkpoints" / "step-000010"
    report = last_json(call("evaluate", str(old), "--json"))
    assert report["checkpoint"] == str(old)
    assert report["params_sha256"] != last_json(call("evaluate", str(trained), "--json"))["params_sha256"]


def test_a_checkpoint_without_its_run_is_evaluated_alike(trained: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(trained / "checkpoints" / "step-000020", tmp_path / "alone")
    for split in ("test", "validation"):
        found = last_json(call("evaluate", str(alone), "--split", split, "--json"))
        assert found["loss"] == last_json(call("evaluate", str(trained), "--split", split, "--json"))["loss"]


def test_a_run_on_shards_knows_its_folder_and_notes_other_data(here: Path) -> None:
    prepared = call("data", "prepare", "digits", "shards", "--shards", "2")
    assert prepared.exit_code == 0
    assert "359" in prepared.stdout
    args = [
        "--set",
        "data.name=parquet",
        "--data-root",
        "shards",
        "--steps",
        "3",
        "--run-dir",
        "run",
        "--json",
    ]
    report = last_json(call("train", *SMALL, *args))
    known = call("evaluate", "run", "--json")
    assert last_json(known)["accuracy"] == report["test_accuracy"]
    assert "note:" not in known.stderr
    (here / "shards").rename(here / "moved")
    refused(call("evaluate", "run"), "--data-root", "shards")
    assert last_json(call("evaluate", "run", "--data-root", "moved", "--json"))["accuracy"] == report["test_accuracy"]
    images, labels = (t.numpy() for t in next(open_dataset(DataConfig(shards=2)).batches("test", 300)))
    other = here / "other"
    other.mkdir()
    header, _ = read_footer(here / "moved" / "train-00000-of-00002.parquet")
    for split in ("train", "test"):
        name = f"{split}-00000-of-00001.parquet"
        pixels = (images * 255).round().astype(np.uint8)
        write_file(other / name, pixels, labels, header._replace(fingerprint="0" * 64))
    noted = call("evaluate", "run", "--data-root", "other", "--json")
    assert last_json(noted)["n"] == 300
    assert "fingerprints differ" in noted.stderr


def test_a_model_of_python_code_is_sent_back_there(here: Path) -> None:
    config = glr_dist.load_config("digits-threshold", {"engine.workers": 0, "steps": 1, "batch": 32, "units.rows": 16})
    glr_dist.train(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), config=config, run_dir="run")
    refused(call("evaluate", "run"), "built by Python code", "load_state_dict")


def test_data_and_loss_of_python_code_have_to_be_named(here: Path) -> None:
    rng = np.random.default_rng(0)
    data = ArrayDataset((rng.random((400, 1, 8, 8), np.float32), np.arange(400) % 10), shards=2)
    config = glr_dist.load_config("digits-threshold", {"engine.workers": 0, "steps": 1, "batch": 32, "units.rows": 16})

    def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return -logits.gather(1, labels[:, None])[:, 0]

    glr_dist.train(data=data, loss=margin, config=config, run_dir="run")
    refused(call("evaluate", "run"), "'arrays'", "--dataset")
    result = call("evaluate", "run", "--dataset", "digits", "--json")
    assert (last_json(result)["dataset"], last_json(result)["loss_name"]) == ("digits", "cross-entropy")
    assert "the loss here is cross-entropy" in result.stderr


# --- bad input: one line, exit code 2, nothing left behind, nothing lost ---


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["mnist-treshold"], ["'mnist-treshold'", "did you mean 'mnist-threshold'?"]),
        (["none.toml"], ["none.toml", "no such file"]),
        (["bad.toml"], ["'noise.scal'", "did you mean 'noise.scale'?"]),
        (["--set", "noise.scal=1"], ["'noise.scal'", "did you mean 'noise.scale'?"]),
        (["--set", "noise.scale"], ["--set", "KEY=VALUE"]),
        (["--set", "noise.scale=0"], ["noise.scale = 0.0"]),
        (["--set", "noise.scale=-1"], ["noise.scale = -1.0"]),
        (["--set", "noise.scale=wide"], ["noise.scale = 'wide'", "a number"]),
        (["--set", "estimator.copies=9"], ["estimator.copies = 9", "antithetic", "10"]),
        (["--set", "estimator.copies=2"], ["estimator.copies = 2", "at least 4"]),
        (["--set", "steps=5", "--steps", "6"], ["steps", "twice"]),
        (["--set", "model.activation=step"], ["model.activation", "'step'"]),
        (["--method", "straigth-through"], ["method", "did you mean 'straight-through'?"]),
        (["--loss", "zero-ones"], ["loss", "did you mean 'zero-one'?"]),
        (["--journal", "yes"], ["journal = 'yes'", "auto, off, on"]),
        (["--seed", "-3"], ["seed = -3"]),
        (["--seed", "9" * 30], ["seed = 9999", "2^63"]),
        (["--steps", "0"], ["steps = 0"]),
        (["--steps", "many"], ["--steps", "'many'"]),
        (["--seconds", "0"], ["--seconds", "0"]),
        (["--workers", "-7"], ["engine.workers = -7"]),
        (["--worker", "2"], ["--worker"]),
        (["--method", "bp"], ["method = 'bp'", "model.activation=relu"]),
        (["mnist-sigmoid", "--data-root", "empty"], ["--data-root", "empty", "no mnist"]),
        (["--set", "data.name=parquet"], ["data.root", "--data-root"]),
        (["--set", "data.name=parquet", "--data-root", "empty"], ["--data-root", "holds no training shards"]),
        (["--set", "data.name=parquet", "--data-root", "none"], ["--data-root", "is not a folder"]),
        (["--set", "data.name=parquet", "--data-root", "wrong"], ["label 99", "0 to 9"]),
        (["--set", "batch=1000000"], ["batch = 1000000"]),
        (["--run-dir", "full"], ["--run-dir", "full", "--resume"]),
        (["--resume", "none"], ["none", "not a run"]),
        (["--resume", "empty"], ["empty", "config.toml"]),
        (["digits-threshold", "--resume", "full"], ["PRESET", "--resume"]),
        (["--run-dir", "new", "--resume", "full"], ["--run-dir", "--resume"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_train_refuses_what_cannot_be(here: Path, args: list[str], mentions: list[str]) -> None:
    (here / "bad.toml").write_text("[noise]\nscal = 1.0\n")
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


@pytest.mark.parametrize(
    ("args", "mention"),
    [
        (["--seed", "1"], "seed: can't change"),
        (["--steps", "99"], "steps: can't change"),
        (["--set", "noise.scale=2"], "noise.scale: can't change"),
        (["--journal", "off"], "journal: can't change"),
    ],
)
def test_a_resumed_run_keeps_what_defines_it(trained: Path, args: list[str], mention: str) -> None:
    refused(call("train", "--resume", str(trained), *args), mention)


def _cut_short(run: Path) -> None:
    file = run / "checkpoints" / "step-000020" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _lacks_a_file(run: Path) -> None:
    (run / "checkpoints" / "step-000020" / "training.pt").write_bytes(b"")


def _other_model(run: Path) -> None:
    config = (run / "config.toml").read_text()
    assert "hidden = [\n    50,\n]" in config
    (run / "config.toml").write_text(config.replace("    50,\n", "    60,\n"))


def _other_data(run: Path) -> None:
    config = (run / "config.toml").read_text()
    folder = run.parent / "others"
    prepare("digits", str(folder), shards=2)
    for file in folder.iterdir():  # the same shapes, other content
        header, rows = read_footer(file)
        write_file(
            file,
            np.zeros((rows, 1, 8, 8), np.uint8),
            np.zeros(rows, np.int64),
            header._replace(fingerprint="f"),
        )
    config = config.replace('name = "digits"\nroot = ""', f'name = "parquet"\nroot = "{folder}"')
    (run / "config.toml").write_text(config)


def _no_checkpoint(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


@pytest.mark.parametrize(
    ("harm", "mentions"),
    [
        (_cut_short, ["cut short", "weights.safetensors", "step-000010"]),
        (_lacks_a_file, ["cut short", "training.pt", "step-000010"]),
        (_other_model, ["another model", "1.bias", "(50,)", "(60,)"]),
        (_other_data, ["fingerprint", "--data-root"]),
    ],
)
def test_resume_refuses_a_harmed_run_and_leaves_it_alone(
    own: Path, harm: Callable[[Path], None], mentions: list[str]
) -> None:
    harm(own)
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    refused(call("train", "--resume", str(own)), *mentions)
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before


def test_a_run_stopped_before_its_first_checkpoint_resumes_from_its_beginning(own: Path) -> None:
    whole = last_json(call("evaluate", str(own), "--json"))
    _no_checkpoint(own)
    resumed = last_json(call("train", "--resume", str(own), "--json"))
    assert resumed["params_sha256"] == whole["params_sha256"]


def test_resume_goes_back_to_the_checkpoint_it_is_given(own: Path) -> None:
    whole = last_json(call("evaluate", str(own), "--json"))
    steps = sorted((own / "checkpoints").iterdir())
    assert len(steps) > 1
    resumed = last_json(call("train", "--resume", str(steps[0]), "--json"))
    assert resumed["params_sha256"] == whole["params_sha256"]


@pytest.mark.parametrize("harm", [_cut_short, _lacks_a_file, _no_checkpoint])
def test_evaluate_refuses_a_harmed_run(own: Path, harm: Callable[[Path], None]) -> None:
    harm(own)
    refused(call("evaluate", str(own)), "checkpoint")


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["--dataset", "minst"], ["--dataset 'minst'", "did you mean 'mnist'?"]),
        (["--dataset", "mnist", "--data-root", "none"], ["--data-root", "no mnist"]),
        (["--dataset", "parquet", "--data-root", "wide"], ["[1, 8, 16]", "[1, 8, 8]"]),
        (["--dataset", "parquet", "--data-root", "three"], ["3 classes", "10"]),
        (["--dataset", "parquet", "--data-root", "untested"], ["--split test", "no such rows"]),
        (["--dataset", "parquet"], ["--data-root"]),
        (["--split", "tests"], ["--split", "'tests'"]),
        (["--votes", "-1"], ["--votes", "-1"]),
        (["--votes", "few"], ["--votes", "'few'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_evaluate_refuses_what_does_not_fit(trained: Path, here: Path, args: list[str], mentions: list[str]) -> None:
    prepare("digits", str(here / "digits"), shards=1)
    header, _ = read_footer(here / "digits" / "train-00000-of-00001.parquet")
    for name, other, splits in (
        ("wide", header._replace(shape=(1, 8, 16)), ("train", "test")),
        ("three", header._replace(classes=("a", "b", "c")), ("train", "test")),
        ("untested", header, ("train",)),
    ):
        (here / name).mkdir()
        for split in splits:
            file = here / name / f"{split}-00000-of-00001.parquet"
            write_file(file, np.zeros((20, *other.shape), np.uint8), np.zeros(20, np.int64), other)
    refused(call("evaluate", str(trained), *args), *mentions)


@pytest.mark.parametrize("place", ["none", "."])
def test_evaluate_refuses_a_place_without_a_checkpoint(place: str) -> None:
    refused(call("evaluate", place), "checkpoint")


def test_losses_that_are_not_finite_stop_the_run_at_its_last_whole_step(here: Path) -> None:
    result = call("train", *SMALL, "--set", "optimizer.lr=1e30", "--steps", "50", "--run-dir", "run")
    refused(result, "step", "unit", "optimizer.lr")
    assert list((here / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["digit", "out"], ["'digit'", "did you mean 'digits'?"]),
        (["mnist", "out", "--data-root", "none"], ["--data-root", "no mnist"]),
        (["digits", "out", "--shards", "0"], ["shards is 0"]),
        (["digits", "taken"], ["taken", "choose a new folder"]),
        (["digits"], ["OUT"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_prepare_refuses_what_cannot_be(here: Path, args: list[str], mentions: list[str]) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "thesis.tex").write_text("do not lose me")
    before = sorted(here.rglob("*"))
    refused(call("data", "prepare", *args), *mentions)
    assert sorted(here.rglob("*")) == before


def test_an_unknown_preset_is_not_printed() -> None:
    refused(call("presets", "digits"), "'digits'", "did you mean 'digits-threshold'?")


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
