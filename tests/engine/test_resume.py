"""Interrupted and resumed equals uninterrupted, bit for bit: parameters, optimizer, journal and metrics."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import ES, JOINT, STEPS, contents, digits, outcome, own_model, resume_small, small_config, train_small
from torch import nn

from glr_dist.config import load_config
from glr_dist.core.losses import cross_entropy
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.prepare import prepare
from glr_dist.engine.callbacks import Progress
from glr_dist.engine.replay import replay
from glr_dist.errors import UserError
from glr_dist.store.checkpoint import checkpoint_steps, load_checkpoint
from glr_dist.store.storage import Storage

MOMENTUM = {"optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.options": {"momentum": 0.9, "nesterov": True}}
RUNS: dict[str, dict[str, Any]] = {
    "adamw-linear": {"optimizer.weight_decay": 0.1, "journal": "on"},
    "joint-momentum-one-cycle": JOINT | MOMENTUM | {"schedule.name": "one-cycle", "journal": "off"},
    "zero-one-joint-cosine": JOINT | {"loss": "zero-one", "schedule.name": "cosine", "noise.source": "generator"},
    "es-nadam-step": ES | {"optimizer.name": "nadam", "schedule.name": "step", "schedule.every": 3},
    "straight-through-rmsprop": {"method": "straight-through", "optimizer.name": "rmsprop"},
    "augmented": {"augment.attack": "fgsm", "augment.jitter": 0.1},
    "augmented-bp": {"method": "bp", "model.activation": "relu", "augment.attack": "pgd"},
    "epochs": {"batch": 640, "units.rows": 160, "estimator.copies": 4},  # one step an epoch
}


def interrupt_at(step: int) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return show


@pytest.mark.parametrize("name", RUNS)
def test_interrupted_twice_and_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = train_small(whole, RUNS[name])
    with pytest.raises(KeyboardInterrupt):
        train_small(parts, RUNS[name], show=interrupt_at(3))
    assert outcome(parts)["step"] == 3  # a checkpoint was written on the way out
    with pytest.raises(KeyboardInterrupt):
        resume_small(parts, show=interrupt_at(6))
    result = resume_small(parts)
    assert result.params_sha256 == expected.params_sha256
    assert (result.steps, result.noisy_forwards) == (STEPS, expected.noisy_forwards)
    assert (result.test_accuracy, result.validation_accuracy) == (expected.test_accuracy, expected.validation_accuracy)
    assert outcome(parts) == outcome(whole)
    has_journal = name not in ("joint-momentum-one-cycle", "straight-through-rmsprop", "augmented-bp")
    assert bool(outcome(parts)["journal"]) == result.journal == has_journal


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train_small(folder)
    return outcome(folder)


def test_a_run_that_ran_out_of_time_goes_on(whole: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert train_small(folder, seconds=0.0).steps == 1  # the step in hand is finished, and kept
    assert outcome(folder)["step"] == 1
    assert resume_small(folder, seconds=0.0).steps == 2
    result = resume_small(folder)
    assert result.steps == STEPS
    assert outcome(folder) == whole


def test_a_signal_lets_the_step_finish(whole: dict[str, Any], tmp_path: Path) -> None:
    """SIGTERM in the middle of step 3, as a batch system sends it: step 3 is whole in the checkpoint."""
    folder, calls = tmp_path / "run", []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(len(labels))
        if len(calls) == 2 * (2 * 2 * 2 * 4) + 5:  # signs x pieces x sites x blocks of two steps, and some more
            os.kill(os.getpid(), signal.SIGTERM)
        return nn.functional.cross_entropy(logits, labels, reduction="none")

    with pytest.raises(KeyboardInterrupt):
        train_small(folder, loss=loss)
    assert outcome(folder)["step"] == 3
    plain = nn.functional.cross_entropy
    resume_small(folder, loss=lambda logits, labels: plain(logits, labels, reduction="none"))
    uninterrupted = tmp_path / "uninterrupted"
    train_small(uninterrupted, loss=lambda logits, labels: plain(logits, labels, reduction="none"))
    assert outcome(folder) == outcome(uninterrupted)


def test_a_killed_run_goes_on_from_its_newest_checkpoint(whole: dict[str, Any], tmp_path: Path) -> None:
    """The journal and the metrics are ahead of the checkpoint then: what they have too much is dropped."""
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_small(folder, show=interrupt_at(7))
    assert checkpoint_steps(Storage.at(folder)) == [4, 7]
    shutil.rmtree(folder / "checkpoints" / "step-000007")
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 8, "lo')  # half a line
    resume_small(folder)
    assert outcome(folder) == whole


def test_a_run_that_failed_at_once_can_be_resumed(whole: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def broken(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if len(labels) > 8:  # the trial before the first step sees no more
            raise OSError("disk gone")
        return cross_entropy(logits, labels)

    with pytest.raises(OSError, match="disk gone"):
        train_small(folder, loss=broken)
    assert checkpoint_steps(Storage.at(folder)) == [0]
    with pytest.raises(UserError, match=r"its loss was given in Python; pass it again: glr_dist.resume\(run, loss="):
        resume_small(folder)
    resume_small(folder, loss=cross_entropy)
    assert outcome(folder)["weights"] == whole["weights"]


def test_resuming_a_finished_run_changes_nothing(whole: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = train_small(folder)
    before = contents(folder)
    again = resume_small(folder)
    assert again.params_sha256 == first.params_sha256
    assert contents(folder) == before


def test_a_run_may_move_from_one_process_to_actors(whole: dict[str, Any], tmp_path: Path, ray_session: None) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_small(folder, show=interrupt_at(5))
    result = resume_small(folder, overrides={"engine.workers": 1, "engine.reconstructors": 1})
    assert result.workers == 1
    assert outcome(folder) == whole


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that waits at step 1, with a model of the user's own; refusals must leave it as it is."""
    folder = tmp_path_factory.mktemp("unfinished") / "run"
    train_small(folder, model=own_model(7), seconds=0.0)
    return folder


def other_digits() -> ArrayDataset:
    rng = np.random.default_rng(0)
    return ArrayDataset((rng.random((1400, 1, 8, 8)), np.arange(1400) % 10), shards=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": own_model(8)}, r"checkpoint of another model: 1.bias has shape \(7,\) there, \(8,\) here"),
        ({}, r"its model was given in Python; pass it again: glr_dist.resume\(run, model=...\)"),
        ({"model": own_model(7), "data": other_digits()}, "was trained on data with fingerprint"),
        (
            {"model": own_model(7), "overrides": {"noise.scale": 2.0}},
            "noise.scale: can't change .* it is 1.0, not 2.0;",
        ),
        ({"model": own_model(7), "overrides": {"steps": STEPS, "seed": "1"}}, "seed: can't change"),
        ({"model": own_model(7), "overrides": {"optimizer.options.amsgrad": True}}, "optimizer.options.amsgrad: can't"),
        ({"model": own_model(7), "data": digits(4)}, r"cut into shards of \[420, 420, 419\] .* these are \[315, 315, "),
        ({"model": own_model(7), "overrides": {"engine.threads": 2}}, "engine.threads: can't change"),
        ({"model": own_model(7), "overrides": {"engine.worker": 2}}, "did you mean 'engine.workers'"),
    ],
)
def test_what_does_not_belong_to_the_run_is_refused(arguments: dict[str, Any], message: str, unfinished: Path) -> None:
    before = contents(unfinished)
    with pytest.raises(UserError, match=message):
        resume_small(unfinished, **arguments)
    assert contents(unfinished) == before


def test_a_checkpoint_of_another_run_is_refused(unfinished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(unfinished, tmp_path / "run"))
    other = train_small(tmp_path / "other", model=own_model(7), data=digits(2)).checkpoint
    shutil.copytree(other, run / "checkpoints" / Path(other).name)
    shutil.rmtree(run / "journal")  # which would lack its steps
    with pytest.raises(UserError, match=r"step-0000\d\d: its data were cut into shards"):
        resume_small(run, model=own_model(7))


def test_the_runs_own_values_may_be_given_again(unfinished: Path, tmp_path: Path) -> None:
    """As a scheduler does, which calls the same command line after each failure."""
    again = {"steps": STEPS, "seed": "0", "engine.gpus_per_worker": 0, "engine.threads": "1", "engine.workers": "0"}
    folder = shutil.copytree(unfinished, tmp_path / "run")
    assert resume_small(folder, model=own_model(7), overrides=again).steps == STEPS


def test_a_place_that_moved_is_remembered(tmp_path: Path) -> None:
    first, second, run = tmp_path / "first", tmp_path / "second", tmp_path / "run"
    prepare("digits", str(first), shards=3)
    train_small(run, {"data.name": "parquet", "data.root": str(first)}, data=None, seconds=0.0)
    first.rename(second)
    with pytest.raises(UserError, match="first"):
        resume_small(run, data=None)
    overrides = {"data.root": str(second), "engine.in_flight": 3}
    assert resume_small(run, data=None, overrides=overrides, seconds=0.0).steps == 2
    assert resume_small(run, data=None).steps == STEPS  # it knows now where they lie
    assert replay(run).equal is True
    kept = load_config(str(run / "config.toml"))
    assert (kept.data.root, kept.engine.in_flight) == (str(second), small_config().engine.in_flight)
    train_small(tmp_path / "whole", {"data.name": "parquet", "data.root": str(second)}, data=None)
    assert outcome(run) == outcome(tmp_path / "whole")


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that wait at step 1: of the config's model and loss, of an own loss, and of an own model of the same shapes."""
    folder = tmp_path_factory.mktemp("waiting")
    train_small(folder / "plain", seconds=0.0)
    train_small(folder / "loss", loss=cross_entropy, seconds=0.0)
    train_small(folder / "model", model=own_model(12), seconds=0.0)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("lost", [None, "checkpoints", "provenance.json"])
@pytest.mark.parametrize(
    ("run", "given", "message"),
    [
        ("loss", {}, "its loss was given in Python; pass it again"),
        ("plain", {"loss": cross_entropy}, "its loss is that of its config; leave loss= out"),
        ("model", {}, "its model was given in Python; pass it again"),
        ("plain", {"model": own_model(12)}, "its model is that of its config; leave model= out"),
    ],
    ids=["loss-missing", "loss-too-many", "model-missing", "model-too-many"],
)
def test_a_run_is_held_to_its_own_model_and_loss(
    run: str, given: dict[str, Any], message: str, lost: str | None, waiting: dict[str, Path], tmp_path: Path
) -> None:
    """Also before the first checkpoint, and where only the checkpoint is left to say so."""
    folder = Path(shutil.copytree(waiting[run], tmp_path / "run"))
    if lost == "checkpoints":
        shutil.rmtree(folder / lost)
    elif lost is not None:
        (folder / lost).unlink()
    before = contents(folder)
    with pytest.raises(UserError, match=message):
        resume_small(folder, **given)
    assert contents(folder) == before


def test_going_back_interrupted_and_resumed_equals_uninterrupted(whole: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_small(folder)
    with pytest.raises(KeyboardInterrupt):
        resume_small(folder / "checkpoints" / "step-000004", show=interrupt_at(6))
    assert checkpoint_steps(Storage.at(folder)) == [4, 6]  # those of the steps to come again are gone
    resume_small(folder)
    assert outcome(folder) == whole


def test_a_crew_that_cannot_start_leaves_the_run_as_it_was(tmp_path: Path, ray_session: None) -> None:
    folder = tmp_path / "run"
    train_small(folder)
    before = contents(folder)
    with pytest.raises(UserError, match=r"--workers 99 .*: needs 99 CPUs"):
        resume_small(folder / "checkpoints" / "step-000004", overrides={"engine.workers": 99})
    assert contents(folder) == before
    assert checkpoint_steps(Storage.at(folder)) == [4, 8, STEPS]


def test_a_run_of_ones_own_model_is_resumed_with_any_parameters_in_it(tmp_path: Path) -> None:
    expected = train_small(tmp_path / "whole", model=own_model(7))
    train_small(tmp_path / "parts", model=own_model(7), seconds=0.0)
    model = own_model(7)
    nn.init.zeros_(model[1].weight)  # type: ignore[index]
    result = resume_small(tmp_path / "parts", model=model)
    assert result.params_sha256 == expected.params_sha256
    weights = load_checkpoint(tmp_path / "whole").weights
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
