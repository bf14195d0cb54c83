"""scripts/benchmark: runs where Ray and pyarrow are not, and its error signals and comparisons are what they say."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import benchmark
import benchmark_scaling
import numpy as np
import pytest
import torch
from benchmark_contenders import network
from benchmark_peers import BACKPROP
from benchmark_variance import Measured, as_rows, error_signals, errors, estimator, reference
from click.testing import CliRunner
from small_runs import small_task

from glr_dist.core.parameters import flat_parameters
from glr_dist.data.arrays import ArrayDataset

SCRIPTS = Path(benchmark.__file__).parent
WITHOUT_RAY = """
import sys
sys.modules["ray"] = sys.modules["pyarrow"] = sys.modules["evotorch"] = None
import benchmark
benchmark.main(["--no-ray", "--seconds", "0", "--hidden", "4", "--json"])
"""


def test_speed_is_measured_without_ray_and_pyarrow() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_RAY], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    tables = json.loads(done.stdout)["tables"]
    rows = {row["way"]: row for row in tables["784-4-10, batch 128"]}
    assert rows[BACKPROP]["of back-propagation's"] == 1.0
    assert all(row["gradient, ms"] > 0 for row in rows.values())
    assert any("outer products" in way for way in rows)
    ours = {way: row for way, row in rows.items() if way.startswith(("copies", "flips", "joint flips"))}
    assert len(ours) == 7
    assert all(row["whole step with the loop, ms"] is None for row in ours.values())  # a run writes with pyarrow
    passes = ours["flips, M = 1, cross-entropy by matrix products"]
    assert passes["million passes a second"] == pytest.approx(128 * (1 + 4 + 32) / passes["gradient, ms"] / 1000)


@pytest.fixture
def few_images() -> ArrayDataset:
    return ArrayDataset(
        (torch.rand((8, 784), generator=torch.Generator().manual_seed(0)), torch.arange(8)), shards=1, validation=0.0
    )


@pytest.mark.parametrize("scheme", ["layerwise", "flips"])
def test_error_signals_are_those_behind_the_gradient(scheme: str, few_images: ArrayDataset) -> None:
    """Their mean over the images is the gradient of the biases, which nobody has told them."""
    crew = estimator(network(5), few_images, 1.0, {"estimator.scheme": scheme})
    theta = flat_parameters(crew.task.model).numpy()
    for repeat, signal in zip((0, 3), error_signals(crew, (0, 3)), strict=True):
        gradient = crew.gradient(theta, 0, repeat).gradient
        assert signal.shape == (8, 5)
        np.testing.assert_allclose(signal.mean(0), gradient[784 * 5 :][:5], atol=1e-5)


def test_flips_agree_with_the_reference(few_images: ArrayDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean of many is within a hundredth of copies that draw their noise elsewhere."""
    monkeypatch.setattr("benchmark_variance.REFERENCE", 20_000)
    model = network(5)
    truth = reference(model, few_images, 0.5)
    flips = estimator(model, few_images, 0.5, {"estimator.scheme": "flips", "estimator.base_draws": 500})
    found = error_signals(flips, [1])[0]
    assert ((found - truth) ** 2).sum() < 0.01 * (truth**2).sum()


def test_errors_are_compared_at_equal_cost() -> None:
    """Copies whose error is 10 / K, at 0.1 ms a copy: flips with 30 losses in 1 ms stand against 1/3 and 1."""
    nobody: Any = None
    found = [Measured(name="", flips=False, crew=nobody, losses=k, error=10 / k, ms=k / 10) for k in (16, 256, 64)]
    for losses, ms, error in ((30, 1.0, 0.1), (4, 100.0, 0.5)):
        flips = Measured(name="", flips=True, crew=nobody, losses=losses, error=error, ms=ms)
        row = as_rows([flips, *found])[0]
        assert row["of copies' at equal losses"] == pytest.approx(error / (10 / losses))
        assert row["of copies' at equal ms"] == pytest.approx(error / (10 / (10 * ms)))
    assert as_rows(found)[0]["of copies' at equal ms"] is None


def test_the_variance_of_a_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """From end to end, on images that need no file: flips err less than as many copies."""
    monkeypatch.setattr("benchmark_variance.REFERENCE", 8_000)
    monkeypatch.setattr("benchmark_variance.STAGES", (40,))
    monkeypatch.setattr("benchmark_variance._TIMED", 0.0)
    ((title, rows),) = errors(12, None).items()
    assert title.startswith("784-12-10 after 40 steps on scikit-learn's digits")
    found = {row["estimator"]: row for row in rows}
    assert found["flips, M = 1"]["losses an image"] == 13
    assert 0 < found["flips, M = 1"]["of copies' at equal losses"] < 1
    few, many = (found[f"copies, K = {copies}"]["relative squared error"] for copies in (16, 1024))
    assert math.log(few / many, 64) == pytest.approx(1.0, abs=0.25)  # as 1 / K


def test_a_folder_without_mnist_is_told(tmp_path: Path) -> None:
    told = CliRunner().invoke(benchmark.main, ["--variance", "--data-root", str(tmp_path)])
    assert told.exit_code == 2
    assert "--data-root" in told.output
    assert "train-images-idx3-ubyte; leave it out" in told.output


WITHOUT_RAY_SCALING = """
import json, sys
sys.modules["ray"] = sys.modules["pyarrow"] = None
import benchmark_scaling
print(json.dumps(benchmark_scaling.scaling(0.0, False, {"mnist-wide": {"batch": 64, "units.rows": 16}})))
"""


def test_scaling_is_measured_in_one_process_without_ray_and_pyarrow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY_SCALING], cwd=SCRIPTS, capture_output=True, text=True, check=True
    )
    ((title, rows),) = json.loads(done.stdout).items()
    assert title == "mnist-wide, batch 64 in 4 blocks"
    assert [row["workers"] for row in rows] == ["in this process"]
    assert rows[0]["times as fast"] == 1.0


def test_workers_are_timed_beside_one_process_with_both_placements(ray_session: None) -> None:
    from glr_dist.planning.forecast import Link

    task = small_task()
    rows = benchmark_scaling.beside(task, Link(bandwidth=1e9, latency=1e-4), 2, 0.2)
    assert [(row["workers"], row["reconstruct"]) for row in rows] == [(2, "driver"), (2, "workers")]
    for row in rows:
        assert row["times as fast"] == pytest.approx(row["of one process, ms"] / row["ms a step"])
        assert row["forecast, ms"] > 0


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = CliRunner().invoke(benchmark.main, ["--device", "cuda"])
    assert (told.exit_code, "--device" in told.output) == (2, True)


def test_our_ways_alone_make_a_table_without_ratios() -> None:
    contenders = benchmark.our_contenders(4)[:2]
    benchmark.measure(contenders, 0.0, rounds=1)
    assert [row["of back-propagation's"] for row in benchmark.as_rows(contenders)] == [None, None]
