"""The presets as shipped reach the accuracy that they are for, each with one seed, in one process."""

from __future__ import annotations

from pathlib import Path

import pytest

import glr_dist
from glr_dist.config import load_config


def reached(preset: str, folder: Path, data_root: str) -> float:
    """Test accuracy at the end of a run."""
    keys = {"engine.workers": 0, "data.root": data_root, "data.cache": str(folder / "cache")}
    result = glr_dist.train(config=load_config(preset, keys), run_dir=folder / "run", say=lambda line: None)
    assert result.test_accuracy is not None
    return float(result.test_accuracy)


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
