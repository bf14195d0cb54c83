"""Signal and noise of a run's gradients: known ones are found, a look at them moves no bit, a weak layer is told of once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shared_layer import Shared
from small_runs import ES, JOINT, STEPS, outcome, resume_small, small_task, train_small
from torch import nn

from glr_dist.core.activations import Heaviside
from glr_dist.core.parameters import flat_parameters
from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.diagnosis import Diagnosis, layer_slices, signal, signals
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

FLIPS = {"estimator.scheme": "flips", "loss": "cross-entropy"}
RUNS: dict[str, dict[str, Any]] = {
    "layerwise": {},
    "flips-adversarial": FLIPS | {"augment.attack": "fgsm", "augment.jitter": 0.1},
    "joint-flips-generator": {"estimator.scheme": "joint-flips", "noise.source": "generator"},
    "joint-zero-one": JOINT | {"loss": "zero-one"},
    "es": ES,
}
NOISY = ES | {"diagnose_every": 1}  # 8 losses for the 922 parameters of two layers: hardly any signal


def figures(folder: Path) -> dict[int, dict[str, Any]]:
    """Of a run's diagnosed steps, what its metrics say of signal and noise."""
    lines = read_metrics(Storage.at(folder))
    found = {line["step"]: {k: v for k, v in line.items() if k.startswith(("snr/", "cosine/"))} for line in lines}
    return {step: values for step, values in found.items() if values}


def test_two_estimates_by_hand() -> None:
    found = signal(np.float32([3, 4]), np.float32([3, 0]))  # their mean [3, 2], half their difference [0, 2]
    assert found.cosine == pytest.approx(9 / (5 * 3))
    assert found.snr == pytest.approx(math.sqrt(9) / 2)
    opposed = signal(np.float32([1, 0]), np.float32([-1, 1]))
    assert (opposed.cosine, opposed.snr) == (pytest.approx(-1 / math.sqrt(2)), 0.0)
    equal = signal(np.float32([1, 2]), np.float32([1, 2]))
    assert (equal.cosine, equal.snr) == (pytest.approx(1.0), None)
    assert signal(np.zeros(2, np.float32), np.float32([0, 1])).cosine is None


@pytest.mark.parametrize("ratio", [0.5, 1.0, 4.0])
def test_known_signals_are_found(ratio: float) -> None:
    """Layers whose gradient is known, with noise of a known size, one of them in two parts."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40_000)
    deviation = np.where(np.arange(40_000) < 10_000, 1.0, math.sqrt(2) / ratio)  # a mean of two has it over sqrt(2)
    first, second = (np.float32(truth + deviation * rng.normal(size=40_000)) for _ in range(2))
    found = signals(first, second, {"known": [slice(10_000, 20_000), slice(20_000, 40_000)], "other": [slice(10_000)]})
    assert found["known"].snr == pytest.approx(ratio, rel=0.1)
    assert found["known"].cosine == pytest.approx(1 / (1 + 2 / ratio**2), rel=0.2)
    assert found["other"].snr == pytest.approx(math.sqrt(2), rel=0.04)


def test_layers_have_their_own_parameters() -> None:
    """Also one that is called twice, and one whose bias is not trained, so that others lie elsewhere in the gradient."""
    x = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
    data = ArrayDataset((x, torch.arange(20) % 2), shards=1)
    shared = small_task({"batch": 8}, data, model=Shared())
    assert layer_slices(shared) == {"core": [slice(0, 9), slice(9, 12)], "last": [slice(12, 18), slice(18, 20)]}
    model = nn.Sequential(nn.Linear(3, 4), Heaviside(), nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    task = small_task({"batch": 8}, data, model=model)
    assert layer_slices(task) == {"0": [slice(0, 12)], "2": [slice(12, 20), slice(20, 22)]}


@pytest.mark.parametrize("name", RUNS)
def test_a_look_changes_no_bit(name: str, tmp_path: Path) -> None:
    """Parameters, optimizer, journal, losses: all as without; and a resumed run looks at the same steps."""
    train_small(tmp_path / "unseen", RUNS[name] | {"diagnose_every": 0})
    train_small(tmp_path / "seen", RUNS[name] | {"diagnose_every": 3})
    unseen, seen = outcome(tmp_path / "unseen"), outcome(tmp_path / "seen")
    found = figures(tmp_path / "seen")
    assert list(found) == [1, 4, 7, 10]
    assert all(set(values) == {"snr/1", "snr/3", "cosine/1", "cosine/3"} for values in found.values())
    for line in seen["metrics"]:
        for key in found.get(line["step"], {}):
            del line[key]
    assert seen == unseen
    train_small(tmp_path / "parts", RUNS[name] | {"diagnose_every": 3}, seconds=0.0)
    resume_small(tmp_path / "parts")
    assert figures(tmp_path / "parts") == found


def test_actors_find_the_same(tmp_path: Path, ray_session: None) -> None:
    keys = RUNS["flips-adversarial"] | {"diagnose_every": 3}
    train_small(tmp_path / "alone", keys)
    train_small(tmp_path / "crew", keys | {"engine.workers": 2, "engine.reconstructors": 1})
    assert outcome(tmp_path / "crew") == outcome(tmp_path / "alone")
    assert figures(tmp_path / "crew")


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    found = signal(first, second).cosine
    assert found is not None
    return found


def test_a_repeat_is_another_estimate_of_the_same_gradient() -> None:
    """Same rows, other noise: means of many agree, no two of them are equal, and other rows give another gradient."""
    task = small_task(FLIPS)
    crew, theta = assemble_crew(task, EngineConfig(workers=0)), flat_parameters(task.model).numpy()
    ours, repeats, others = (
        [crew.gradient(theta, step, repeat).gradient for repeat in among]
        for step, among in ((3, range(1)), (3, range(1, 81)), (4, range(40)))
    )
    assert len({estimate.tobytes() for estimate in ours + repeats + others}) == 121
    first, second, other = (np.mean(some, axis=0) for some in (repeats[:40], repeats[40:], others))
    for parts in layer_slices(task).values():
        mean, again, elsewhere = (np.concatenate([g[part] for part in parts]) for g in (first, second, other))
        assert cosine(mean, again) > 0.9 > 0.6 > cosine(mean, elsewhere)


def test_methods_without_losses_are_not_looked_at(tmp_path: Path) -> None:
    train_small(tmp_path / "run", {"method": "bp", "model.activation": "relu", "diagnose_every": 1})
    assert figures(tmp_path / "run") == {}


def test_a_run_without_signal_is_told_of_once(tmp_path: Path) -> None:
    said: list[str] = []
    train_small(tmp_path / "run", NOISY, say=said.append)
    found = figures(tmp_path / "run")
    assert list(found) == list(range(1, STEPS + 1))
    assert max(values[key] for values in found.values() for key in ("snr/1", "snr/3")) < 1
    warnings = [line for line in said if line.startswith("weak signal")]
    assert len(warnings) == 1
    assert "below 1 for 5 diagnoses" in warnings[0]
    assert "at step 5," in warnings[0]
    assert "noise.scale or estimator.copies," in warnings[0]


def test_a_run_with_signal_hears_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    train_small(tmp_path / "run", FLIPS | {"diagnose_every": 1, "estimator.copies": 32}, say=said.append)
    found = figures(tmp_path / "run")
    assert min(values["snr/1"] for values in found.values()) > 1
    assert said == []


def test_only_what_stays_weak_is_told() -> None:
    """A layer that was weak in five looks that follow each other, though another is weaker in the last of them."""
    said: list[str] = []
    task = small_task(FLIPS)
    diagnosis = Diagnosis(task, 10, said.append)
    parts = {name: np.r_[tuple(slices)] for name, slices in layer_slices(task).items()}
    size = sum(map(len, parts.values()))

    def look(step: int, **ratios: float) -> None:
        """With such signal-to-noise ratios in the layers."""
        first, second = (np.zeros(size, np.float32) for _ in range(2))
        for layer, ratio in ratios.items():
            one, two = parts[layer[1:]][:2]
            first[one] = second[one] = ratio
            first[two], second[two] = 1.0, -1.0  # costs g1.g2 just 1
            first[one] = second[one] = math.sqrt(ratio**2 + 1)
        diagnosis.figures(step, first, second)

    for step in range(4):
        look(step, l1=0.5, l3=2.0)
    look(4, l1=1.5, l3=2.0)
    assert diagnosis.weakest == ("1", pytest.approx(1.5))
    for step in range(5, 9):
        look(step, l1=0.5, l3=2.0)
    assert said == []
    look(9, l1=0.5, l3=0.25)
    assert diagnosis.weakest == ("3", pytest.approx(0.25))
    look(10, l1=0.1, l3=0.1)
    assert len(said) == 1
    assert "layer '1'" in said[0]
    assert "ratio 0.50 at step 9" in said[0]
    assert "noise.scale or estimator.base_draws," in said[0]  # its bits are turned


def test_looks_are_spread_evenly() -> None:
    task = small_task()

    def steps(every: int) -> list[int]:
        diagnosis = Diagnosis(task, every, lambda line: None)
        return [step for step in range(1, 301) if diagnosis.due(step)]

    assert steps(0) == []
    assert steps(100) == [50, 150, 250]
    assert steps(1) == list(range(1, 301))
