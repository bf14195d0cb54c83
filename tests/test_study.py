"""The Python door to a run that is there: load, predict, evaluate, attack, compare; configs as Python writes them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import digits, own_model, train_small

import glr_dist
from glr_dist.engine.callbacks import Progress
from glr_dist.errors import UserError
from glr_dist.store.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model and data that Python gave."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train_small(run, {"steps": 40}, model=own_model(12))
    return run


def test_a_run_is_loaded_with_what_it_was_made_of(trained: Path) -> None:
    run = glr_dist.load(trained, model=own_model(12), data=digits())
    assert (run.step, run.config.steps) == (40, 40)
    for name, weights in load_checkpoint(trained).weights.items():
        assert torch.equal(run.model.state_dict()[name], weights)
    history = run.history
    assert history["step"].tolist() == list(range(1, 41))
    assert history["validation_accuracy"].count() == 10
    assert run.result is not None
    assert run.evaluate().accuracy == run.result["test"]["accuracy"]
    assert run.evaluate("validation").accuracy == history["validation_accuracy"].iloc[-1]
    early = glr_dist.load(trained / "checkpoints/step-000004", model=own_model(12), data=digits())
    assert early.step == 4
    assert early.evaluate("validation").accuracy == history["validation_accuracy"].iloc[3]


def test_predictions_are_those_that_the_accuracy_counts(trained: Path) -> None:
    run = glr_dist.load(trained, model=own_model(12), data=digits())
    ((x, labels),) = digits().batches("test", 1000)
    found = run.predict(x.numpy())
    assert found.shape == (397,)
    assert float(np.mean(found == labels.numpy())) == run.evaluate().accuracy
    shares = run.predict(x, probabilities=True)
    assert shares.argmax(-1).tolist() == found.tolist()
    assert shares.sum(-1) == pytest.approx(np.ones(397), abs=1e-5)
    assert run.predict(x[3]) == found[3]
    with pytest.raises(UserError, match=r"x: has shape \[2, 9\]; the run's inputs are \[B, 1, 8, 8\]"):
        run.predict(np.zeros((2, 9)))


def test_an_attack_is_reported_for_each_size(trained: Path) -> None:
    run = glr_dist.load(trained, model=own_model(12), data=digits())
    report = run.attack("random-signs", epsilon=[0.0, 0.3], count=50, draws=5)
    clean, hurt = (entry["worst"]["mean"] for entry in report["worst"])
    assert clean == report["models"][0]["clean"]["mean"]
    assert hurt < clean
    assert report["conditions"]["samples"] == 50


def test_runs_are_compared_in_what_tells_them_apart(trained: Path, tmp_path: Path) -> None:
    train_small(tmp_path / "wide", {"steps": 40, "noise.scale": 2.0})
    found = glr_dist.compare(trained, tmp_path / "wide")
    assert found["run"].tolist() == ["run", "wide"]
    assert found["noise.scale"].tolist() == [1.0, 2.0]
    assert "optimizer.lr" not in found


def test_without_pandas_tables_are_lists(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    run = glr_dist.load(trained, model=own_model(12), data=digits())
    assert [line["step"] for line in run.history][:3] == [1, 2, 3]


def test_configs_are_made_as_python_writes_them() -> None:
    preset = glr_dist.load_config("mnist-threshold")
    made = glr_dist.Config.from_preset("mnist-threshold", noise={"scale": np.float32(2)}, **{"optimizer.lr": 0.5})
    assert (made.noise.scale, made.optimizer.lr) == (2.0, 0.5)
    assert (made.optimizer.weight_decay, made.estimator) == (preset.optimizer.weight_decay, preset.estimator)
    plain = glr_dist.Config(steps=np.int64(7), noise={"scale": 3}, model={"hidden": np.array([4, 5]).tolist()})
    assert (plain.steps, type(plain.steps), plain.noise.scale, plain.model.hidden) == (7, int, 3.0, (4, 5))
    options = glr_dist.Config.from_preset("mnist-threshold", optimizer={"name": "sgd", "options": {"momentum": 0.9}})
    assert options.optimizer.options == {"momentum": 0.9}
    with pytest.raises(UserError, match=r"'noise\.scal': unknown; did you mean 'noise\.scale'"):
        glr_dist.Config.from_preset("mnist-threshold", noise={"scal": 1})
    with pytest.raises(UserError, match="noise = 3: is a table of keys"):
        glr_dist.Config(noise=3)


def test_a_bar_shows_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_small(tmp_path / "run", callbacks=[glr_dist.ProgressBar()])
    assert "step 12/12" in capsys.readouterr().err
    bar = glr_dist.ProgressBar()
    bar.on_step(Progress(step=1, steps=2, loss=1.0, seconds_left=0.0))  # nothing was begun
