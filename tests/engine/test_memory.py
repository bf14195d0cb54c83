"""Copies are processed in bounded pieces: 10,000 of them fit into 1.5 GB a process, Python and torch included."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, tempfile
import numpy as np, torch
torch.set_num_threads(1)
import glr_dist
from glr_dist.config import parse_config
keys = {"batch": 25, "steps": 2, "model.hidden": [20], "estimator.copies": 10_000, "engine.workers": 0}
config = parse_config("", keys | {"estimator.scheme": sys.argv[1], "method": sys.argv[2]})
rng = np.random.default_rng(0)
data = glr_dist.ArrayDataset((rng.random((250, 1, 14, 14)), rng.integers(0, 10, 250)), shards=2)
with tempfile.TemporaryDirectory() as folder:
    result = glr_dist.train(data=data, config=config, run_dir=folder + "/run")
print(result.noisy_forwards, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # the second in kB
"""


@pytest.mark.parametrize(
    ("scheme", "method", "passes"), [("layerwise", "glr", 2), ("joint", "glr", 1), ("layerwise", "es", 1)]
)
def test_ten_thousand_copies_fit(scheme: str, method: str, passes: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, scheme, method], capture_output=True, text=True, check=True, timeout=100
    )
    noisy_forwards, kilobytes = map(int, done.stdout.split())
    assert noisy_forwards == 2 * passes * 25 * 10_000
    assert kilobytes < 1.5e6
