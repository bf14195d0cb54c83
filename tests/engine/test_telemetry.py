"""A run's figures where people look for them: on Ray's Prometheus endpoint, and in TensorBoard's event files."""

from __future__ import annotations

import re
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults import kill
from small_runs import STEPS, crews_watched, resume_small, train_small

from glr_dist.engine.callbacks import Progress
from glr_dist.engine.driver import Clock
from glr_dist.engine.telemetry import Sampler
from glr_dist.errors import UserError
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

LOSSES_PER_STEP = 2 * 8 * 32  # sites x copies x examples


def endpoint() -> str:
    import ray

    node = ray.nodes()[0]
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"


def published(run: str) -> dict[str, float]:
    """The run's figures as a Prometheus server would scrape them now."""
    with urllib.request.urlopen(endpoint(), timeout=10) as answer:
        text = answer.read().decode()
    lines = re.findall(rf'^ray_(glr_dist_\w+){{.*\brun="{run}".*}} (\S+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


def test_rays_endpoint_has_the_runs_figures(tmp_path: Path, ray_session: None) -> None:
    def kill_one(progress: Progress) -> None:
        time.sleep(0.05)
        if progress.step == 6:
            kill(crews[0].evaluators.members()[0])

    with crews_watched() as crews:
        result = train_small(tmp_path / "watched", {"engine.workers": 1, "engine.reconstruct": "driver"}, show=kill_one)
    deadline = time.monotonic() + 60
    figures: dict[str, float] = {}
    while figures.get("glr_dist_steps_total") != STEPS and time.monotonic() < deadline:
        time.sleep(0.5)
        figures = published("watched")
    assert figures["glr_dist_steps_total"] == STEPS
    assert figures["glr_dist_bytes_up_total"] == 4 * LOSSES_PER_STEP * STEPS == result.bytes_up
    assert figures["glr_dist_bytes_down_total"] == result.bytes_down
    assert figures["glr_dist_workers_lost_total"] == 1
    assert figures["glr_dist_units_in_flight"] == 0
    assert figures["glr_dist_noisy_forwards_per_second"] == 0  # it is over
    assert 0 < figures["glr_dist_step_seconds"] < 60


def test_samples_tell_what_happened_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.util.metrics

    values: dict[str, float] = {}

    class Recorder:
        def __init__(self, name: str, text: str, tag_keys: tuple[str, ...]) -> None:
            self.name = name

        def set(self, value: float, tags: dict[str, str]) -> None:
            values[self.name] = value

        def inc(self, value: float, tags: dict[str, str]) -> None:
            assert value > 0
            values[self.name] = values.get(self.name, 0) + value

    monkeypatch.setattr(ray.util.metrics, "Gauge", Recorder)
    monkeypatch.setattr(ray.util.metrics, "Counter", Recorder)
    now = 100.0
    driver: Any = SimpleNamespace(run=SimpleNamespace(name="x"), step=7, clock=Clock(noisy_forwards=1000))
    crew: Any = SimpleNamespace(pools=[], units_in_flight=0, workers_lost=0, bytes_up=0, bytes_down=0)
    sampler = Sampler(driver, crew, lambda: now)  # a run resumed at step 7
    now, driver.step, driver.clock.noisy_forwards, crew.bytes_up = 102.0, 11, 5000, 64
    sampler.publish()
    assert values["glr_dist_noisy_forwards_per_second"] == (5000 - 1000) / 2
    assert values["glr_dist_step_seconds"] == 2 / 4
    assert (values["glr_dist_steps"], values["glr_dist_bytes_up"]) == (4, 64)
    now = 105.0  # one long step, not done yet
    sampler.publish()
    assert values["glr_dist_noisy_forwards_per_second"] == 0
    assert values["glr_dist_step_seconds"] == 3
    now, driver.step = 106.0, 12
    sampler.publish()
    assert values["glr_dist_step_seconds"] == 4
    assert values["glr_dist_steps"] == 5


def test_tensorboard_shows_what_the_metrics_say(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    train_small(folder, {"tensorboard": True}, seconds=0.0)
    resume_small(folder)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    metrics = read_metrics(Storage.at(folder))
    for name in ("loss", "lr", "noisy_forwards", "validation_accuracy", "validation_loss"):
        written = [(line["step"], line[name]) for line in metrics if name in line]
        seen = [(scalar.step, scalar.value) for scalar in events.Scalars(name)]
        assert seen == [(step, pytest.approx(value, rel=1e-6)) for step, value in written]
    assert len(events.Scalars("loss")) == STEPS


def test_tensorboard_missing_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'glr-dist\[tensorboard\]'"):
        train_small(tmp_path / "run", {"tensorboard": True})
    assert not (tmp_path / "run").exists()
