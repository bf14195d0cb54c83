"""For tests of commands: an empty current folder, a cache of their own, and a small run that is there already."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import SMALL, call


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared shards of all these tests, and of their child processes."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps with checkpoints at 10 and 20; not to be written to."""
    run = tmp_path_factory.mktemp("trained") / "run"
    result = call("train", *SMALL, "--steps", "20", "--set", "checkpoint_every=10", "--run-dir", str(run))
    assert result.exit_code == 0, result.stderr
    return run


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a gradient; not to be written to."""
    run = tmp_path_factory.mktemp("surrogate") / "bp"
    how = ["--method", "bp", "--set", "model.activation=relu", "--steps", "60", "--run-dir", str(run)]
    result = call("train", *SMALL, *how)
    assert result.exit_code == 0, result.stderr
    return run


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on small digits that was trained on its worst case; not to be written to."""
    run = tmp_path_factory.mktemp("certified") / "run"
    keys = ["loss=certified", "certify.epsilon=0.15", "model.input_threshold=0.5", "estimator.scheme=flips"]
    keys += ["noise.scale=0.4", "optimizer.lr=0.02", "model.hidden=[30]"]
    settings = [part for key in keys for part in ("--set", key)]
    result = call("train", *SMALL, *settings, "--steps", "200", "--run-dir", str(run))
    assert result.exit_code == 0, result.stderr
    return run


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be written to."""
    return Path(shutil.copytree(trained, tmp_path / "own"))
