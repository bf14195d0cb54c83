"""Checkpoints are evaluated beside the run, which goes its way as if nobody looked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import Signs, digits, outcome, resume_small, small_task, train_small
from torch.nn.functional import cross_entropy

from glr_dist.core.activations import straight_through
from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine.async_evaluation import evaluated_beside
from glr_dist.engine.validation import validated
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP
from glr_dist.store.checkpoint import load_checkpoint
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

KEYS = {"evaluate_every": 3, "augment.epsilon": 0.15, "tensorboard": True}


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "report" / "evaluations.jsonl").read_text().splitlines()]


def by_hand(checkpoint: Path) -> tuple[float, float]:
    """Accuracy on the validation split, clean and under FGSM through a straight-through derivative."""
    model = MLP(64, [12], 10, "heaviside")
    model.load_state_dict(load_checkpoint(checkpoint).weights)
    x, labels = next(digits().batches("validation", 1000))
    with straight_through():
        leaf = x.clone().requires_grad_()
        cross_entropy(model(leaf), labels, reduction="sum").backward()
    assert leaf.grad is not None
    attacked = (x + 0.15 * leaf.grad.sign()).clamp(0, 1)
    right = [(model(each).argmax(-1) == labels).float().mean().item() for each in (x, attacked)]
    return right[0], right[1]


@pytest.fixture(scope="module")
def run(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps in this process, but for the spectator."""
    folder = tmp_path_factory.mktemp("run") / "run"
    train_small(folder, KEYS)
    return folder


def test_every_nth_checkpoint_is_evaluated_as_by_hand(run: Path) -> None:
    found = lines(run)
    assert [line["step"] for line in found] == [3, 6, 9, 12]
    for line in found:
        checkpoint = run / "checkpoints" / f"step-{line['step']:06d}"
        assert (line["accuracy"], line["fgsm_accuracy"]) == pytest.approx(by_hand(checkpoint))
        assert line["params_sha256"] == load_checkpoint(checkpoint).meta["params_sha256"]
        assert (line["split"], line["n"], line["epsilon"]) == ("validation", digits().count("validation"), 0.15)
    assert found[-1]["fgsm_accuracy"] < found[-1]["accuracy"]


def test_the_run_is_the_same_as_unseen(run: Path, tmp_path: Path) -> None:
    train_small(tmp_path / "run", {"augment.epsilon": 0.15})
    assert outcome(tmp_path / "run") == outcome(run)


def test_a_resumed_run_replaces_what_was_said_of_its_steps(run: Path, ray_session: None, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    first = folder / "checkpoints" / "step-000004"
    with (folder / "report" / "evaluations.jsonl").open("a") as file:
        file.write('{"step": 12')  # somebody's full disk
    resume_small(first, seconds=0.0, overrides={"evaluate_every": 0})
    assert lines(folder) == lines(run)[:1]
    resume_small(first)
    assert lines(folder) == lines(run)


def test_what_was_found_reaches_metrics_and_tensorboard(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = [line for line in read_metrics(Storage.at(run)) if "evaluation_accuracy" in line]
    assert [line["step"] for line in found] == [3, 6, 9, 12]
    for line, reported in zip(found, lines(run), strict=True):
        assert set(line) == {"step", "evaluation_accuracy", "evaluation_fgsm_accuracy"}
        assert line["evaluation_accuracy"] == reported["accuracy"]
        assert line["evaluation_fgsm_accuracy"] == reported["fgsm_accuracy"]
    curves = EventAccumulator(str(run / "tensorboard")).Reload()
    for name in ("evaluation_accuracy", "evaluation_fgsm_accuracy"):
        events = curves.Scalars(name)
        assert [event.step for event in events] == [3, 6, 9, 12]
        assert [event.value for event in events] == pytest.approx([line[name] for line in found])


@contextmanager
def told(measure: Any, folder: Path) -> Iterator[tuple[Any, list[Any], list[str]]]:
    """Within: a measuring function beside a run; with what was recorded and what was said of it, which is whole behind."""
    found: list[Any] = []
    said: list[str] = []
    with evaluated_beside(measure, Storage.at(folder), found.append, said.append) as look:
        yield look, found, said


def test_an_error_is_told_and_the_others_are_evaluated(ray_session: None, tmp_path: Path) -> None:
    def measure(checkpoint: str) -> dict[str, Any]:  # travels by value, being local
        if checkpoint == "2":
            raise UserError("there is no checkpoint 2")
        return {"step": int(checkpoint), "accuracy": 0.5}

    with told(measure, tmp_path) as (look, found, said):
        for checkpoint in ("1", "2", "3"):
            look(checkpoint)
    assert found == lines(tmp_path) == [{"step": step, "accuracy": 0.5} for step in (1, 3)]
    assert len(said) == 1
    assert "a checkpoint was not evaluated" in said[0]
    assert "there is no checkpoint 2" in said[0]


def test_an_evaluator_that_dies_comes_back(
    ray_session: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def measure(checkpoint: str) -> dict[str, Any]:
        died = Path(checkpoint) / "died"
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"step": 6}

    with told(measure, tmp_path) as (look, found, said):
        look(str(tmp_path))
    assert (tmp_path / "died").exists()
    assert (found, said) == ([{"step": 6}], [])
    assert "restart will fail" not in capfd.readouterr().err  # what Ray says of what it can't do again


def test_whoever_is_interrupted_waits_for_nobody_but_keeps_what_is_there(ray_session: None, tmp_path: Path) -> None:
    def measure(checkpoint: str) -> dict[str, Any]:
        if checkpoint == "2":
            time.sleep(600)
        return {"step": int(checkpoint)}

    began = time.monotonic()
    with suppress(KeyboardInterrupt), told(measure, tmp_path) as (look, found, _):
        look("1")
        look("2")
        while not (tmp_path / "report" / "evaluations.jsonl").exists():
            time.sleep(0.01)
        time.sleep(0.2)  # from the file to the answer
        raise KeyboardInterrupt
    assert found == [{"step": 1}]
    assert time.monotonic() - began < 60


def test_a_network_without_any_gradient_has_no_robust_figure(tmp_path: Path) -> None:
    result = train_small(tmp_path / "run", {"steps": 1}, model=Signs())
    assert validated(small_task(model=Signs()), result.checkpoint)["fgsm_accuracy"] is None


def test_inputs_that_are_no_images_have_no_robust_figure(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(400, 1, 8, 8)).astype(np.float32)
    data = ArrayDataset((x, np.arange(400) % 10), shards=1)
    result = train_small(tmp_path / "run", {"steps": 1}, data=data)
    found = validated(small_task(data=data), result.checkpoint)
    assert found["fgsm_accuracy"] is None
    assert found["n"] == 40
    assert 0 <= found["accuracy"] <= 1


def test_another_error_of_the_attack_is_no_missing_figure(tmp_path: Path) -> None:
    result = train_small(tmp_path / "run", {"steps": 1})
    task = small_task()
    task = replace(task, augment=replace(task.augment, epsilon=float("nan")))
    with pytest.raises(UserError, match="epsilon nan"):
        validated(task, result.checkpoint)


def test_a_run_without_validation_rows_is_refused(tmp_path: Path) -> None:
    data = ArrayDataset((np.zeros((400, 1, 8, 8), np.float32), np.arange(400) % 10), shards=1, validation=0.0)
    with pytest.raises(
        UserError, match=r"evaluate_every: .* on the validation split, and there is none; raise data.val"
    ):
        train_small(tmp_path / "run", KEYS, data=data)
    assert not (tmp_path / "run").exists()
