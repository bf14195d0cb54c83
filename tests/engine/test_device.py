"""Which device a run is made on: settled when it begins, told, kept; and, where there is a GPU, what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import JOINT, outcome, resume_small, small_config, train_small

from glr_dist.core.device import exact_on, found_device
from glr_dist.engine.checks import refuse_changes
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.replay import replay
from glr_dist.errors import UserError
from glr_dist.runs.run import RunStore

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
FLIPS = {"estimator.scheme": "flips"}


def test_a_gpu_that_is_not_there_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (found_device("auto"), found_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(UserError, match=r"engine.device = 'cuda' \(--device\): .*use cpu, or auto"):
        train_small(tmp_path / "run", {"engine.device": "cuda"})
    assert not (tmp_path / "run").exists()


def test_auto_is_settled_when_the_run_begins_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    train_small(tmp_path / "run", {"engine.device": "auto", "steps": 2})
    run, _ = RunStore.at(tmp_path / "run")
    card = run.card()
    assert run.config().engine.device == "cpu"
    assert card is not None
    assert card.versions["device"] == "cpu"


@pytest.mark.parametrize(
    ("engine", "devices"),
    [
        ({}, ("cpu", "cpu")),
        ({"device": "cuda"}, ("cuda", "cuda")),
        ({"device": "cuda", "reconstruct": "driver"}, ("cuda", "cuda")),  # the driver has it
        ({"workers": 2, "gpus_per_worker": 0.5}, ("cuda", "cuda")),
        ({"workers": 2, "gpus_per_worker": 0.5, "reconstruct": "driver"}, ("cuda", "cpu")),
        ({"workers": 2, "gpus_per_worker": 1.0, "reconstructors": 1}, ("cuda", "cuda")),
    ],
)
def test_who_computes_on_what(engine: dict[str, Any], devices: tuple[str, str]) -> None:
    config = EngineConfig(**engine)
    config.check()
    assert (config.evaluates_on, config.reconstructs_on) == devices


@pytest.mark.parametrize("others", [{"workers": 2}, {"reconstructors": 1}, {"generators": 1}])
def test_the_gpu_of_this_process_is_refused_where_actors_work(others: dict[str, int]) -> None:
    with pytest.raises(UserError, match="--gpus-per-worker, or leave out --workers"):
        EngineConfig(device="cuda", **others).check()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"engine.workers": 2, "engine.gpus_per_worker": 1.0}, {"engine.reconstruct": "driver"}),
        ({"engine.device": "cuda", "engine.workers": -1}, {"engine.device": "cpu"}),
    ],
)
def test_kinds_of_device_are_not_mixed_in_a_run(before: dict[str, Any], now: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="engine"):
        refuse_changes(small_config(before), small_config(before | now), now)


def test_what_a_gpu_run_sets_is_put_back() -> None:
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    with exact_on("cuda"):
        assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()) == before


@needs_gpu
@pytest.mark.parametrize("keys", [{}, JOINT, FLIPS], ids=["layerwise", "joint", "flips"])
def test_a_run_on_a_gpu_is_the_same_each_time_and_resumed_and_replayed(keys: dict[str, Any], tmp_path: Path) -> None:
    on_gpu = keys | {"engine.device": "cuda"}
    train_small(tmp_path / "one", on_gpu)
    train_small(tmp_path / "two", on_gpu | {"steps": 12}, seconds=1e-9)
    resume_small(tmp_path / "two")
    assert outcome(tmp_path / "one")["weights"] == outcome(tmp_path / "two")["weights"]
    assert replay(tmp_path / "one").equal is True


@needs_gpu
def test_a_gpus_losses_are_those_of_a_cpu_but_for_rounding(tmp_path: Path) -> None:
    train_small(tmp_path / "gpu", {"engine.device": "cuda", "steps": 1})
    train_small(tmp_path / "cpu", {"steps": 1})
    found, expected = (outcome(tmp_path / name)["journal"] for name in ("gpu", "cpu"))
    for one, other in zip(found, expected, strict=True):
        losses = [torch.frombuffer(bytearray(row[-1]), dtype=torch.float32) for row in (one, other)]
        assert (losses[0] - losses[1]).abs().median() < 1e-5
