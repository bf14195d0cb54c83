"""scripts/reproduce-proofs: the whole recipe on small digits, and what its tables say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import reproduce_proofs
from click.testing import CliRunner
from table_recipe import Say, Training, left_to_do

import glr_dist
from glr_dist.config import load_config
from glr_dist.robustness.report import build

DIGITS = {
    "data.name": "digits",
    "data.shards": 2,
    "batch": 64,
    "units.rows": 64,
    "steps": 150,
    "model.hidden": [12],
    "noise.table_size": 65536,
    "optimizer.lr": 0.003,
}
NAMES = ("certified", "relu")


def train_here(trainings: Sequence[Training], out: Path, data_root: str, say: Say) -> None:
    for training in trainings:
        say(training.folder)
        glr_dist.train(config=training.config(data_root), run_dir=out / training.folder, say=lambda line: None)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce_proofs, "train_all", train_here)  # a process for each takes long to start
    monkeypatch.setattr(build, "draw_pictures", lambda *_: [])


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.usefixtures("here")
def test_everything_is_trained_proved_and_laid_out(tmp_path: Path) -> None:
    said: list[str] = []
    text = reproduce_proofs.reproduce(
        tmp_path, "", NAMES, range(1), said.append, common=DIGITS, closer=20, workers=0, count=60
    )
    assert said[:2] == ["certified-seed0", "relu-seed0"]
    first, second = [list(map(cells, table.splitlines())) for table in re.findall(r"(?:^\|.*\n)+", text, re.M)]
    assert first[0] == ["network (seeds)", "clean", "0.1", "seconds of training", "SHA-256"]
    assert [row[0] for row in first[2:]] == [
        "`mnist-certified` (1)",
        "control: ReLU, interval bound propagation (1)",
    ]
    proved, attacked = first[2][2].split(" / ")
    exact, bounded = map(float, re.findall(r"[0-9.]+", proved))
    assert 0 < bounded <= exact <= float(first[2][1])
    assert exact <= float(attacked) + 20  # on other images
    assert first[3][2].endswith(" / -") and any(
        line.startswith("not attacked: ") for line in said
    )  # its ReLUs are dead
    assert len(set(re.findall(r"[0-9.]+", first[3][2]))) == 1  # by intervals alone: no program knows it
    assert second[0] == ["proved by intervals at", "clean", "0.05", "0.1"]
    assert float(second[2][2]) >= float(second[2][3]) == bounded
    assert re.fullmatch(r"[0-9a-f]{12}", first[2][-1])
    assert (tmp_path / "report-digits" / "report.md").is_file()


@pytest.mark.parametrize("name", list(reproduce_proofs.NETWORKS))
def test_every_network_has_a_config(name: str) -> None:
    network = reproduce_proofs.NETWORKS[name]
    config = load_config(network.preset, dict(network.settings))
    assert (config.loss == "certified") == (name != "worst-flips")
    assert config.data.name in reproduce_proofs.CURVE
    assert set(reproduce_proofs.DECIDED[config.data.name]) <= set(reproduce_proofs.CURVE[config.data.name])


def test_a_run_that_was_trained_with_a_journal_is_taken_as_it_is(tmp_path: Path) -> None:
    (training,) = reproduce_proofs.trainings(["certified"], [0], DIGITS | {"steps": 2})
    config = load_config(training.preset, {**training.settings, "engine.workers": 0})
    glr_dist.train(config=config, run_dir=tmp_path / training.folder, say=lambda line: None)
    assert left_to_do(training, tmp_path, "") == []


def test_an_unknown_network_is_refused() -> None:
    result = CliRunner().invoke(reproduce_proofs.main, ["--network", "nobody"])
    assert result.exit_code == 2 and "certified" in result.output
