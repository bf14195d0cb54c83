"""``glr-dist evaluate``: what it measures and on which data, and one line for every mistake."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import SMALL, call, last_json, refused
from harm import cut_short, no_checkpoint
from safetensors.numpy import load_file
from scipy.special import log_softmax
from torch import nn

import glr_dist
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.config import DataConfig
from glr_dist.data.dataset import open_dataset
from glr_dist.data.shards import write_shards


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


def test_both_doors_give_the_same_votes_and_take_the_seed(trained: Path) -> None:
    def report(seed: str) -> float:
        found = last_json(call("evaluate", f"one={trained}", "--votes", "3", "--seed", seed, *HERE))
        return float(found["models"][0]["clean"]["mean"])

    def plain(seed: str) -> float:
        found = last_json(call("evaluate", str(trained), "--votes", "3", "--seed", seed, "--json"))
        return float(found["noisy_accuracy"])

    assert [report(seed) for seed in "57"] == pytest.approx([plain(seed) for seed in "57"], abs=1e-6)
    assert plain("5") != plain("7")


@pytest.mark.parametrize(("method", "told"), [("bp", "without noise (bp)"), ("es", "with noise in its weights")])
def test_votes_need_a_run_with_noise_in_its_neurons_at_both_doors(here: Path, method: str, told: str) -> None:
    how = ["--method", method, *(["--set", "model.activation=relu"] if method == "bp" else []), "--workers", "0"]
    trained = call("train", "digits-threshold", *how, "--steps", "1", "--run-dir", "run")
    assert trained.exit_code == 0, trained.stderr
    for name in ("", "one="):
        refused(call("evaluate", f"{name}run", "--votes", "2", "--workers", "0"), "--votes: ", told, "leave it out")


def test_noisy_votes_are_the_same_every_time_and_lose_to_the_clean_network_in_mean_loss(trained: Path) -> None:
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
    args = ["--set", "data.name=parquet", "--data-root", "shards", "--steps", "3", "--run-dir", "run", "--json"]
    report = last_json(call("train", *SMALL, *args))
    known = call("evaluate", "run", "--json")
    assert last_json(known)["accuracy"] == report["test_accuracy"]
    assert "note:" not in known.stderr
    (here / "shards").rename(here / "moved")
    refused(call("evaluate", "run"), "--data-root", "shards")
    assert last_json(call("evaluate", "run", "--data-root", "moved", "--json"))["accuracy"] == report["test_accuracy"]
    images, labels = (t.numpy() for t in next(open_dataset(DataConfig(shards=2)).batches("test", 300)))
    rows = (images * 255).round().astype(np.uint8), labels
    classes = tuple(map(str, range(10)))
    write_shards(here / "other", {"train": rows, "test": rows}, name="digits", classes=classes, shards=1)
    noted = call("evaluate", "run", "--data-root", "other", "--json")
    assert last_json(noted)["n"] == 300
    assert "fingerprints differ" in noted.stderr


def test_a_model_of_python_code_is_sent_back_there(here: Path) -> None:
    config = glr_dist.load_config("digits-threshold", {"engine.workers": 0, "steps": 1, "batch": 32, "units.rows": 16})
    glr_dist.train(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), config=config, run_dir="run")
    refused(call("evaluate", "run"), "built by Python code", "open_network")


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


@pytest.mark.parametrize("harm", [cut_short, no_checkpoint])
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
        (["--seed", "3"], ["--seed 3", "nothing is drawn"]),
        (["--workers", "2"], ["--workers 2", "measured in this process"]),
        (["--generators", "2"], ["--generators 2", "--surrogate"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_evaluate_refuses_what_does_not_fit(trained: Path, here: Path, args: list[str], mentions: list[str]) -> None:
    digits = tuple(map(str, range(10)))
    for name, shape, classes, splits in (
        ("wide", (1, 8, 16), digits, ("train", "test")),
        ("three", (1, 8, 8), ("a", "b", "c"), ("train", "test")),
        ("untested", (1, 8, 8), digits, ("train",)),
    ):
        rows = np.zeros((20, *shape), np.uint8), np.zeros(20, np.int64)
        write_shards(here / name, dict.fromkeys(splits, rows), name="digits", classes=classes, shards=1)
    refused(call("evaluate", str(trained), *args), *mentions)


@pytest.mark.parametrize("place", ["none", "."])
def test_evaluate_refuses_a_place_without_a_checkpoint(place: str) -> None:
    refused(call("evaluate", place), "checkpoint")


# --- under attack ---

HERE = ["--workers", "0", "--json"]


def test_attacks_corruptions_and_several_checkpoints_give_a_report(trained: Path, surrogate: Path, here: Path) -> None:
    attack = ["--attack", "fgsm", "--attack", "random-signs", "--epsilon", "0.1", "--epsilon", "0.3", "--draws", "20"]
    more = ["--surrogate", str(surrogate), "--corruption", "impulse", "--count", "60", "--out", "report"]
    old = trained / "checkpoints" / "step-000010"
    result = call("evaluate", str(trained), f"early={old}", *attack, *more, *HERE)
    report = last_json(result)
    assert [model["model"] for model in report["models"]] == ["glr heaviside cross-entropy mlp 64-50-10", "early"]
    assert {(row["attack"], row["epsilon"]) for row in report["lines"]} >= {("fgsm", 0.1), ("random-signs", 0.3)}
    assert len(report["surrogates"]) == 1
    assert {entry["corruption"] for entry in report["corruptions"]} >= {"impulse"}
    assert report == json.loads((here / "report" / "report.json").read_text())
    assert (here / "report" / "report.md").exists()
    assert list((here / "report" / "pictures").glob("*.png"))
    assert "fgsm" in result.stderr  # the table; standard output is for a program
    assert len(result.stdout.splitlines()) == 1


def test_seeds_of_one_network_share_a_name_and_others_get_names_apart(trained: Path, here: Path) -> None:
    for name, how in (("one", ["--seed", "1"]), ("two", ["--seed", "2"]), ("wide", ["--set", "noise.scale=3"])):
        assert call("train", *SMALL, "--steps", "2", *how, "--run-dir", name).exit_code == 0
    same = last_json(call("evaluate", "one", "two", *HERE))
    assert [(model["model"], model["clean"]["seeds"]) for model in same["models"]] == [
        ("glr heaviside cross-entropy mlp 64-50-10", 2)
    ]
    apart = last_json(call("evaluate", "one", "wide", *HERE))
    assert [model["model"].rpartition(" (")[2] for model in apart["models"]] == [
        "one step-000002)",
        "wide step-000002)",
    ]
    named = last_json(call("evaluate", "A=one", "A=two", "B=wide", *HERE))
    assert [model["model"] for model in named["models"]] == ["A", "B"]


def test_one_named_checkpoint_is_a_report_and_a_plain_one_is_not(trained: Path) -> None:
    plain = last_json(call("evaluate", str(trained), *HERE))
    report = last_json(call("evaluate", f"mine={trained}", *HERE))
    assert report["models"][0]["clean"]["mean"] == pytest.approx(plain["accuracy"], abs=1e-6)
    assert "models" not in plain


def test_a_surrogate_that_is_under_test_is_warned_of(surrogate: Path) -> None:
    result = call("evaluate", str(surrogate), "--attack", "fgsm", "--surrogate", str(surrogate), "--count", "30", *HERE)
    assert last_json(result)["lines"][-1]["knowledge"] == "white-box"
    assert "warning: the surrogate" in result.stderr
    assert "white-box, not transfer" in result.stderr


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["--attack", "fgsm", "--epsilon", "-1"], ["--epsilon -1.0"]),
        (["--attack", "fgsm"], ["no gradient", "--surrogate CHECKPOINT"]),
        (["--attack", "eot-pgd"], ["eot-pgd", "--votes"]),
        (["--epsilon", "0.1"], ["--epsilon", "--attack"]),
        (["--corruption", "all", "--steps", "3"], ["--steps", "--attack"]),
        (["--seconds-per-sample", "1"], ["--seconds-per-sample", "--attack"]),
        (["--attack", "exact", "--seconds-per-sample", "nan"], ["--seconds-per-sample nan"]),
        (["--surrogate", "SELF"], ["--surrogate", "--attack fgsm"]),
        (
            ["--attack", "square", "--steps", "3"],
            ["--steps 3: is a setting of pgd, bpda-pgd, eot-pgd; give one of them"],
        ),
        (["--corruption", "impulse", "--generators", "2"], ["--generators 2", "there is none; leave it out"]),
        (["--samples", "none"], ["--samples", "no meta.json"]),
        (["SELF"], ["has the very parameters", "give each network once"]),
        (["other"], ["other", "[1, 4, 4]", "[1, 8, 8]"]),
        (["--attack", "fgsm", "--epsilon", "8"], ["--epsilon 8: pixels are in [0, 1]", "8/255 is 0.03137"]),
        (["--attack", "fgsm", "--epsilon", "8/"], ["--epsilon", "'8/' is no number", "8/255"]),
        (["--attack", "random-signs", "--out", "taken"], ["--out taken", "thesis.tex", "choose a new folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_evaluated_is_refused(trained: Path, here: Path, args: list[str], mentions: list[str]) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "thesis.tex").write_text("do not lose me")
    if "other" in args:
        assert call("train", *SMALL, "--steps", "1", "--set", "data.resize=4", "--run-dir", "other").exit_code == 0
    args = [str(trained) if arg == "SELF" else arg for arg in args]
    refused(call("evaluate", str(trained), *args, "--workers", "0"), *mentions)
    assert [file.name for file in (here / "taken").iterdir()] == ["thesis.tex"]


def test_a_size_may_be_a_fraction_and_a_report_is_not_written_over(trained: Path, here: Path) -> None:
    attack = ["--attack", "random-signs", "--epsilon", "51/255", "--draws", "2", "--count", "20", "--out", "report"]
    report = last_json(call("evaluate", str(trained), *attack, *HERE))
    assert {line["epsilon"] for line in report["lines"]} == {0.2}
    refused(call("evaluate", str(trained), *attack, *HERE), "--out report: holds something", "choose a new folder")


def test_other_classes_are_warned_of(mnist_root: Path, here: Path) -> None:
    few = ["--steps", "1", "--workers", "0", "--data-root", str(mnist_root), "--run-dir", "digits"]
    assert call("train", "mnist-threshold", *few).exit_code == 0
    own = call("evaluate", "digits", "--workers", "0")
    assert "warning" not in own.stderr
    others = call("evaluate", "digits", "--dataset", "fashion-mnist", "--data-root", str(mnist_root), "--workers", "0")
    assert others.exit_code == 0, others.stderr
    (line,) = [line for line in others.stderr.splitlines() if line.startswith("warning")]
    assert "was trained to tell 0, 1, 2, ..., and fashion-mnist holds" in line


@pytest.mark.usefixtures("ray_session")
def test_more_actors_than_the_cluster_has_room_for_are_refused(trained: Path) -> None:
    refused(call("evaluate", f"A={trained}", "--workers", "100"), "--workers 100", "100 CPUs", "--workers 0")
