"""scripts/reproduce-2019: the whole recipe on small digits, and what its tables say of networks and surrogates."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import reproduce_2019
from click.testing import CliRunner
from table_recipe import Say, Training

import glr_dist
from glr_dist.config import load_config
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.builtin import load
from glr_dist.robustness.report import build

DIGITS = {
    "data.name": "digits",
    "data.shards": 2,
    "data.resize": 0,
    "batch": 64,
    "units.rows": 64,
    "steps": 60,
    "model.hidden": [12],
    "noise.table_size": 65536,
    "estimator.copies": 4,
    "optimizer.lr": 0.1,
}


def cells(row: str) -> list[str]:
    return row.strip("| ").split(" | ")


def train_here(trainings: Sequence[Training], out: Path, data_root: str, say: Say) -> None:
    for training in trainings:
        say(training.folder)
        glr_dist.train(config=training.config(data_root), run_dir=out / training.folder, say=lambda line: None)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce_2019, "train_all", train_here)  # a process for each takes long to start
    for name in set(reproduce_2019.NETWORKS) - {"bp", "glr-adversarial"}:
        monkeypatch.delitem(reproduce_2019.NETWORKS, name)
    monkeypatch.setattr(build, "draw_pictures", lambda *_: [])  # they take longest, and tests/robustness has them


@pytest.mark.usefixtures("few")
def test_everything_is_trained_attacked_and_laid_out_beside_the_published(tmp_path: Path) -> None:
    said: list[str] = []
    text = reproduce_2019.reproduce(tmp_path, "", 1, said.append, common=DIGITS, closer=5, workers=0)
    surrogates = ["surrogate-seed1000", "surrogate-seed1001", "surrogate-harder-seed1000", "surrogate-seed1002"]
    assert said[:6] == [*surrogates, "bp-seed0", "glr-adversarial-seed0"]
    tables = [list(map(cells, table.splitlines())) for table in re.findall(r"(?:^\|.*\n)+", text, re.M)]
    (header, _, *rows), (beyond, _, *more) = tables
    assert [row[0] for row in rows] == [
        "BP, ReLU, our optimizer (1)",
        "GLR, threshold, 50 hidden, adversarial samples (1)",
    ]
    found = dict(zip(header, rows[0], strict=True))
    assert float(found["FGSM 0.2"]) <= float(found["FGSM 0.1"]) <= float(found["clean"])
    exact = dict(zip(beyond, more[1], strict=True))
    assert float(exact["exact"]) <= float(exact["BPDA-PGD"]) <= float(exact["random"])
    assert dict(zip(beyond, more[0], strict=True))["exact"] == "-"  # no threshold network
    assert (tmp_path / "report" / "report.md").is_file() and (tmp_path / "report-direct" / "report.md").is_file()


def test_published_figures_stand_in_brackets() -> None:
    found = {"mean": 0.951, "sd": 0.002}
    row = {"surrogate_right": [found], "surrogate": {"name": "surrogate"}, "all": found, "epsilon": 0.0}
    attacks = [
        row | {"model": "glr", "attack": attack, "epsilon": size, "surrogate": source}
        for attack, size, source in (
            ("none", 0.0, None),
            ("fgsm", 0.1, {"name": "surrogate"}),
            ("fgsm", 0.1, {"name": "another"}),
            ("fgsm", 0.2, {"name": "surrogate"}),
            ("random-signs", 0.1, None),
        )
    ]
    surrogates = [{"surrogate": "surrogate"}, {"surrogate": "another"}]
    models = [{"model": "glr", "clean": found | {"seeds": 3}}]
    table = reproduce_2019.transfer_table({"models": models, "surrogates": surrogates, "attacks": attacks})
    assert cells(table.splitlines()[2])[:3] == [
        "GLR, threshold, cross-entropy (3)",
        "95.10 ± 0.20 (94.60)",
        "95.10 ± 0.20 (51.80)",
    ]


def test_the_surrogate_that_is_trained_on_never_attacks(tmp_path: Path) -> None:
    surrogates, tested = reproduce_2019.trainings(3, tmp_path, {})
    own = next(t.settings["augment.surrogate"] for t in tested if t.name == "glr-adversarial")
    assert Path(own) == tmp_path / surrogates[-1].folder
    assert surrogates[-1] not in reproduce_2019.SURROGATES
    assert len({(t.name, t.seed) for t in [*surrogates, *tested]}) == 4 + 3 * len(reproduce_2019.NETWORKS)


@pytest.mark.parametrize("name", list(reproduce_2019.NETWORKS))
def test_every_network_is_of_the_published_inputs(name: str) -> None:
    network = reproduce_2019.NETWORKS[name]
    config = load_config(network.preset, dict(network.settings))
    assert (config.data.name, config.data.resize) == ("mnist", 14)
    assert config.model.hidden == ((50,) if config.augment.attack else (20,))


def test_what_is_trained_depends_on_the_training_images_and_on_no_test_image(tmp_path: Path) -> None:
    """All surrogates and networks of the recipe, the surrogate whose samples are trained on among them."""
    splits, _ = load("digits", "")
    (x, labels), (test_x, test_labels) = splits["train"], splits["test"]

    def trained(name: str, x: np.ndarray, test_x: np.ndarray) -> dict[str, str]:
        data, found = ArrayDataset((x, labels), (test_x, test_labels), shards=2), {}
        for training in itertools.chain(*reproduce_2019.trainings(1, tmp_path / name, DIGITS | {"steps": 2})):
            run = tmp_path / name / training.folder
            result = glr_dist.train(config=training.config(""), data=data, run_dir=run, say=lambda line: None)
            found[training.folder] = result.params_sha256
        return found

    parameters = trained("first", x, test_x)
    assert len(parameters) == 4 + len(reproduce_2019.NETWORKS)
    assert trained("other test images", x, 255 - test_x) == parameters
    others = trained("other training images", 255 - x, test_x)
    assert [folder for folder in parameters if others[folder] == parameters[folder]] == []


def test_seeds_must_be_one_or_more() -> None:
    result = CliRunner().invoke(reproduce_2019.main, ["--seeds", "0"])
    assert result.exit_code == 2 and "--seeds" in result.output
