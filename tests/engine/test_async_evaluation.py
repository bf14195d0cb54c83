"""Checkpoints are evaluated beside the run, which goes its way as if nobody looked."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import digits, outcome, resume_small, small_task, train_small
from torch import nn
from torch.nn.functional import cross_entropy

from glr_dist.core.activations import straight_through
from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine import async_evaluation as spectator
from glr_dist.engine.async_evaluation import Spectator
from glr_dist.engine.driver import Progress
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP
from glr_dist.store.checkpoint import load_checkpoint

KEYS = {"evaluate_every": 3, "augment.epsilon": 0.15}


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


def test_a_spectator_that_cannot_see_is_no_harm(ray_session: None, tmp_path: Path) -> None:
    """A checkpoint that vanishes before it is looked at costs a line of complaint."""
    said: list[str] = []

    def destroy(progress: Progress) -> None:
        if progress.step in (3, 6):
            shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{progress.step:06d}")

    result = train_small(tmp_path / "run", KEYS, show=destroy, say=said.append)
    assert result.steps == 12
    assert [line["step"] for line in lines(tmp_path / "run")][-2:] == [9, 12]
    assert all("a checkpoint was not evaluated" in line for line in said)


def test_a_spectator_that_dies_comes_back(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    died, remote = tmp_path / "died", ray.remote

    class Mortal(spectator._Actor):
        def look(self, checkpoint: str) -> dict[str, Any]:
            if "000006" in checkpoint and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().look(checkpoint)

    monkeypatch.setattr(ray, "remote", lambda **options: lambda _: remote(**options)(Mortal))
    said: list[str] = []
    train_small(tmp_path / "run", KEYS, say=said.append)
    assert died.exists()
    assert said == []
    assert [line["step"] for line in lines(tmp_path / "run")] == [3, 6, 9, 12]
    assert "restart will fail" not in capfd.readouterr().err  # what Ray says of what it can't do again


def test_a_network_without_any_gradient_has_no_robust_figure(tmp_path: Path) -> None:
    class Signs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.sign(self.first(x.flatten(1))))  # type: ignore[no-any-return]

    result = train_small(tmp_path / "run", {"steps": 1}, model=Signs())
    watching = Spectator(small_task(), str(tmp_path / "run"))
    watching._model = Signs()
    assert watching.look(result.checkpoint)["fgsm_accuracy"] is None


def test_inputs_that_are_no_images_have_no_robust_figure(ray_session: None, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(400, 1, 8, 8)).astype(np.float32)
    train_small(tmp_path / "run", KEYS, data=ArrayDataset((x, np.arange(400) % 10), shards=1))
    assert [line["fgsm_accuracy"] for line in lines(tmp_path / "run")] == [None] * 4
    assert all(line["n"] == 40 and 0 <= line["accuracy"] <= 1 for line in lines(tmp_path / "run"))


def test_a_run_without_validation_rows_is_refused(tmp_path: Path) -> None:
    data = ArrayDataset((np.zeros((400, 1, 8, 8), np.float32), np.arange(400) % 10), shards=1, validation=0.0)
    with pytest.raises(
        UserError, match=r"evaluate_every: .* on the validation split, and there is none; raise data.val"
    ):
        train_small(tmp_path / "run", KEYS, data=data)
    assert not (tmp_path / "run").exists()
