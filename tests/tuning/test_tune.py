"""Tuning by real trainings on the digits: it mends a foolish config, is told what can't be, and repeats itself."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import digits, own_model, small_config, train_small

import glr_dist
from glr_dist.config import Config, load_config
from glr_dist.core.losses import cross_entropy
from glr_dist.data.arrays import ArrayDataset
from glr_dist.errors import UserError
from glr_dist.tuning.trials import Bench, Trial, shortened
from glr_dist.tuning.tune import as_long_as_before

FOOLISH: dict[str, Any] = {
    "optimizer.lr": 3.0,
    "noise.scale": 30.0,
    "steps": 200,
    "units.rows": 32,
    "units.copies": 0,
    "noise.table_size": 2**18,
}


def tune(out: Path, keys: dict[str, Any] | None = None, **arguments: Any) -> Any:
    chosen: dict[str, Any] = {"data": digits(), "seconds": 300.0, "out": out} | arguments
    return glr_dist.tune(config=small_config(FOOLISH | (keys or {})), **chosen)


def test_a_foolish_config_is_mended_and_the_file_trains(tmp_path: Path) -> None:
    seen: list[float] = []
    result = tune(tmp_path / "better.toml", configs=7, show=lambda trial, best, gone: seen.append(gone))
    assert result.start.accuracy < 0.5
    assert result.best.accuracy > max(0.75, result.start.accuracy + 0.3)
    assert result.config == load_config(result.out)
    assert {key: result.best.values[key] for key in ("noise.scale", "optimizer.lr")} == {
        "noise.scale": result.config.noise.scale,
        "optimizer.lr": result.config.optimizer.lr,
    }
    lines = [json.loads(line) for line in (tmp_path / "better.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [trial.number for trial in result.trials]
    assert (len(seen), seen) == (len(lines), sorted(seen))
    trained = glr_dist.train(config=result.out, data=digits(), run_dir=tmp_path / "run", say=lambda line: None)
    assert trained.validation_accuracy > 0.75


def test_a_trial_repeats_itself_and_sees_no_test_split(tmp_path: Path) -> None:
    """Its accuracy is that of a run of so many steps, on the validation split: without a test split it is the same."""
    (x, y), _ = [next(digits(1).batches(split, 2000)) for split in ("train", "test")]
    blind = ArrayDataset((x, y), shards=3)
    result = tune(tmp_path / "t.toml", configs=2, data=blind)
    trial = next(trial for trial in result.trials if trial.number == 1)
    keys = FOOLISH | dict(trial.values) | {"steps": trial.steps, "journal": "off"}
    run = train_small(tmp_path / "run", keys, data=blind)
    assert run.validation_accuracy == trial.accuracy
    assert run.test_accuracy is None


def test_the_time_is_kept(tmp_path: Path) -> None:
    result = tune(tmp_path / "t.toml", {"steps": 100_000}, seconds=5.0)
    assert 2.0 < result.seconds < 5.5
    assert result.trials[0].number == 0


def test_a_schedule_shrinks_with_its_steps() -> None:
    def gamma(name: str, value: float, every: int = 1000) -> tuple[float, int]:
        keys = {"schedule.name": name, "schedule.gamma": value, "schedule.every": every, "steps": 4000}
        schedule = shortened(small_config(keys), 40).schedule
        return schedule.gamma, schedule.every

    assert gamma("step", 0.1) == (0.1, 10)
    assert gamma("step", 0.1, every=50) == (0.1, 1)
    assert gamma("exponential", 0.999)[0] == pytest.approx(0.999**100)


def test_with_other_copies_the_run_takes_the_time_that_it_took() -> None:
    start = small_config({"steps": 1000})
    bench = Bench(start, own_model(), digits(), None)

    def steps(values: dict[str, Any], seconds: float) -> int:
        given, best = (
            Trial(number=n, rung=0, values=v, steps=100, seconds=s) for n, v, s in ((0, {}, 1.0), (1, values, seconds))
        )
        return as_long_as_before(start, best, bench, given).steps

    assert steps({"estimator.copies": 16}, 1.9) == 530
    assert steps({"estimator.copies": 8, "noise.scale": 0.3}, 1.9) == 1000  # the same copies: a step is what it was


def test_a_model_of_ones_own_stays_as_it_is(tmp_path: Path) -> None:
    model = own_model()
    before = {name: p.clone() for name, p in model.named_parameters()}
    tune(tmp_path / "t.toml", {"optimizer.lr": 0.01, "noise.scale": 0.5}, configs=2, model=model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0.0}, "--seconds 0.0: must be a finite number above 0"),
        ({"workers": -2}, "--workers -2: must be 0"),
        ({"configs": 0}, "--configs 0: must be at least 1"),
        ({"out": "better"}, "--out better: a config's name ends in .toml"),
        ({"tries": {"engine.threads": None}}, "--try engine.threads: can't be tried"),
        ({"config": Config(method="bp")}, "method = 'bp': Heaviside units have no gradient"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen: dict[str, Any] = {"config": small_config(FOOLISH), "data": digits(), "seconds": 5.0} | arguments
    with pytest.raises(UserError, match=message) as caught:
        glr_dist.tune(**chosen)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_neither_file_is_written_over(tmp_path: Path) -> None:
    for name in ("x.toml", "x.jsonl"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UserError, match=f"{name} is there already; choose another name"):
            tune(tmp_path / "x.toml")
        (tmp_path / name).unlink()


def test_data_without_a_validation_split_are_refused(tmp_path: Path) -> None:
    x, y = next(digits(1).batches("train", 2000))
    with pytest.raises(UserError, match=r"data.validation: .* validation split, and there is none"):
        tune(tmp_path / "x.toml", data=ArrayDataset((x, y), validation=0.0))


def test_where_no_trial_ends_in_time_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--seconds: .* give more"):
        tune(tmp_path / "x.toml", seconds=1e-3)


def test_where_every_trial_fails_it_says_why(tmp_path: Path) -> None:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.where(logits.abs().amax(-1) > 1e6, torch.inf, cross_entropy(logits, labels))

    huge = {"optimizer.lr": 1e30}
    with pytest.raises(UserError, match=r"of 2 trials none came to an accuracy \(loss: .* must be finite"):
        tune(tmp_path / "x.toml", huge, tries={"optimizer.lr": [1e30]}, configs=2, loss=loss)


def test_without_ray_tunes_packages_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        UserError, match=r"--workers 2: Ray Tune's packages are missing \(pandas\); pip install 'glr-dist\[tune\]', or"
    ):
        tune(tmp_path / "x.toml", workers=2)


@pytest.mark.usefixtures("ray_session")
def test_trials_on_ray_tune_come_to_the_same_accuracies(tmp_path: Path) -> None:
    pytest.importorskip("pandas")  # of the extra `tune`
    result = tune(tmp_path / "better.toml", configs=5, workers=2)
    assert {trial.number for trial in result.trials} == set(range(5))
    assert result.best.accuracy > result.start.accuracy
    assert tomllib.loads(Path(result.out).read_text())["noise"]["scale"] == result.config.noise.scale
    trial = max(result.trials, key=lambda trial: trial.number)
    keys = FOOLISH | dict(trial.values) | {"steps": trial.steps, "journal": "off"}
    assert train_small(tmp_path / "run", keys).validation_accuracy == trial.accuracy
