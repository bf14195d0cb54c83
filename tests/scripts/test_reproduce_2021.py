"""scripts/reproduce-2021: the whole recipe on a few small digits, and what it says beside the published figures."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import reproduce_2021
import table_recipe
from click.testing import CliRunner
from table_recipe import Training, cell, left_to_do, markdown, train_all

import glr_dist
from glr_dist.errors import UserError

DIGITS = {
    "data.name": "digits",
    "data.shards": 2,
    "steps": 100,
    "validate_every": 0,
    "noise.table_size": 2**18,
    "optimizer.lr": 0.03,
}


def digits(seed: int = 0, **settings: Any) -> Training:
    return Training(name="LRT", seed=seed, preset="mnist-2021-threshold", settings=DIGITS | settings)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reproduce_2021.DATASETS, "digits", DIGITS)
    monkeypatch.setitem(reproduce_2021.PUBLISHED, "digits", {"LRT": {"clean": 95.33, "contrast": 68.13}})
    for networks, kept in ((reproduce_2021.NETWORKS, "LRT"), (reproduce_2021.SURROGATES, "sigmoid")):
        for name in set(networks) - {kept}:
            monkeypatch.delitem(networks, name)


@pytest.mark.usefixtures("small")
def test_networks_are_trained_once_and_stand_beside_the_published_ones(tmp_path: Path) -> None:
    said: list[str] = []
    result = reproduce_2021.reproduce("digits", tmp_path, "", 1, lambda *_: None, said.append)
    assert said[0] == f"{tmp_path}: 2 networks, 0 of them trained already"
    assert sum(line.startswith("glr-dist train mnist-2021-threshold --set data.name=digits") for line in said) == 2
    train_all([*itertools.chain(*reproduce_2021.trainings("digits", 1))], tmp_path, "", said.append)
    assert said[-1] == f"{tmp_path}: 2 networks, 2 of them trained already"
    header, _, row, *_ = (line.strip("| ").split(" | ") for line in result.splitlines())
    found = dict(zip(header, row, strict=True))
    assert (found["digits"], found["seeds"]) == ("LRT", "1")
    assert re.fullmatch(r"\d+\.\d\d \(95\.33\)", found["clean"])
    assert re.fullmatch(r"\d+\.\d\d \(68\.13\)", found["Contrast"])
    assert re.fullmatch(r"\d+\.\d\d", found["FGSM, surrogate-sigmoid"])  # nothing published
    assert float(found["FGSM, surrogate-sigmoid"]) < float(found["random signs"]) <= float(found["clean"].split()[0])
    assert "surrogate-sigmoid: mlp 64-50-10 sigmoid, bp, seed 1000: clean " in result
    assert (tmp_path / "report" / "report.md").is_file()


def test_an_interrupted_training_goes_on_and_one_with_other_settings_is_refused(tmp_path: Path) -> None:
    glr_dist.train(config=digits().config(""), run_dir=tmp_path / digits().folder, seconds=1e-9, say=lambda line: None)
    assert left_to_do(digits(), tmp_path, "") == ["train", "--resume", str(tmp_path / "LRT-seed0")]
    assert left_to_do(digits(1), tmp_path, "")[:2] == ["train", "mnist-2021-threshold"]
    with pytest.raises(
        UserError, match=r"LRT-seed0: was trained with other settings; delete it, or give another --out"
    ):
        left_to_do(digits(loss="zero-one"), tmp_path, "")


def test_a_training_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_recipe, "left_to_do", lambda *_: ["train", "no-such-preset"])
    with pytest.raises(UserError, match=r"(?s)train no-such-preset: failed with exit code 2: Error: preset 'no-such"):
        train_all([digits()], tmp_path, "", lambda line: None)


def test_the_command_of_a_training_makes_its_config(tmp_path: Path) -> None:
    from glr_dist.commands.options import config_overrides
    from glr_dist.config import load_config

    place = str(tmp_path / "somewhere")
    command = digits(3).command(tmp_path, place)
    flags = dict(zip(command[-10::2], command[-9::2], strict=True))
    options = {key.removeprefix("--").replace("-", "_"): value for key, value in flags.items()}
    assert options.pop("run_dir") == str(tmp_path / "LRT-seed3")
    settings = [value for flag, value in zip(command[2:-10:2], command[3:-10:2], strict=True) if flag == "--set"]
    assert load_config(command[1], config_overrides(options, settings)) == digits(3).config(place)


def test_a_cell_holds_mean_deviation_and_what_was_published() -> None:
    found = {"mean": 0.95333, "sd": 0.00123}
    assert cell(found, 95.01) == "95.33 ± 0.12 (95.01)"
    assert cell(found | {"sd": None}) == "95.33"
    assert cell(None) == "-"
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"


def test_an_unknown_data_set_is_named() -> None:
    result = CliRunner().invoke(reproduce_2021.main, ["--datasets", "mnist,fashoin-mnist"])
    assert isinstance(result.exception, UserError)
    assert "--datasets fashoin-mnist: unknown" in str(result.exception)
    assert "fashion-mnist" in str(result.exception)
