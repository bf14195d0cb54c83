"""The presets as shipped reach the accuracy that they are for, each with one seed, in one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import glr_dist
from glr_dist.attacks.attack import named_attack
from glr_dist.config import load_config
from glr_dist.robustness.evaluation import evaluate_robustness, open_data
from glr_dist.robustness.selection import Selection
from glr_dist.robustness.subjects import open_subjects


def reached(preset: str, folder: Path, data_root: str) -> float:
    """Test accuracy at the end of a run."""
    keys = {"engine.workers": 0, "data.root": data_root, "data.cache": str(folder / "cache")}
    result = glr_dist.train(config=load_config(preset, keys), run_dir=folder / "run", say=lambda line: None)
    assert result.test_accuracy is not None
    return float(result.test_accuracy)


@pytest.mark.slow
def test_digits(tmp_path: Path) -> None:
    assert reached("digits-threshold", tmp_path, "") >= 0.95


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("preset", "least"),
    [
        ("mnist-threshold", 0.96),  # not marked: continuous integration has time for one
        pytest.param("mnist-zero-one", 0.95, marks=pytest.mark.accuracy),
        pytest.param("fashion-threshold", 0.855, marks=pytest.mark.accuracy),
        pytest.param("mnist-conv", 0.96, marks=pytest.mark.accuracy),
    ],
)
def test_mnist(preset: str, least: float, mnist_root: Path, tmp_path: Path) -> None:
    assert reached(preset, tmp_path, str(mnist_root)) >= least


@pytest.mark.slow
@pytest.mark.accuracy
@pytest.mark.timeout(3600)
def test_mnist_certified(mnist_root: Path, tmp_path: Path) -> None:
    assert reached("mnist-certified", tmp_path, str(mnist_root)) >= 0.945
    data = open_data(tmp_path / "run", data_root=str(mnist_root))
    bounds = [named_attack("intervals", epsilon=0.3)]
    (outcome,) = evaluate_robustness(open_subjects([tmp_path / "run"], data), data, attacks=bounds).attacks
    assert float(np.mean(outcome.right)) >= 0.86


@pytest.mark.slow
@pytest.mark.accuracy
@pytest.mark.timeout(3600)
def test_mnist_worst_flips(mnist_root: Path, tmp_path: Path) -> None:
    assert reached("mnist-worst-flips", tmp_path, str(mnist_root)) >= 0.965
    data = open_data(tmp_path / "run", data_root=str(mnist_root))
    proofs = [named_attack("exact", epsilon=epsilon) for epsilon in (0.1, 0.3)]
    findings = evaluate_robustness(
        open_subjects([tmp_path / "run"], data), data, attacks=proofs, selection=Selection(count=200)
    )
    small, large = (float(np.mean(outcome.right)) for outcome in findings.attacks)
    assert small >= 0.92
    assert large >= 0.5
