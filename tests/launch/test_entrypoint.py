"""The command of a job: refused here where it can be, and with places that are found on the cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from command_line import call, refused

from glr_dist.cli import main
from glr_dist.commands.submit import places_of_results
from glr_dist.errors import UserError
from glr_dist.launch.entrypoint import Entrypoint, make_entrypoint
from glr_dist.launch.place import Place


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a TOML file."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "mine.toml").write_text("steps = 3\n")
    (tmp_path / "other.toml").write_text("")
    return folder


def nowhere(command: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """No command's results need a place."""
    return {}


def made(line: str, here: Path) -> Entrypoint:
    return make_entrypoint(main, line.format(here=here, above=here.parent).split(), here, nowhere)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("train mine.toml --run-dir out --steps 5", "train --steps 5 --run-dir {here}/out mine.toml"),
        ("train mine.toml --run-dir=out", "train --run-dir {here}/out mine.toml"),
        ("train --run-dir 5 --steps 5", "train --steps 5 --run-dir {here}/5"),
        ("train --run-dir s3://bucket/run", "train --run-dir s3://bucket/run"),
        ("train --run-dir /shared/../run --data-root ../data", "train --data-root {above}/data --run-dir /run"),
        ("train --resume runs/a --tensorboard", "train --resume {here}/runs/a --tensorboard"),
        ("train {here}/mine.toml --run-dir /out", "train --run-dir /out mine.toml"),
        ("train --surrogate runs/bp --run-dir runs/bp", "train --surrogate {here}/runs/bp --run-dir {here}/runs/bp"),
        (
            "train --set data.root=a --set augment.surrogate=gs://b/c --set data.cache=~/d --set loss=a/b",
            "train --set data.root={here}/a --set augment.surrogate=gs://b/c --set data.cache={home}/d --set loss=a/b",
        ),
        ("check --run-dir a --set data.cache=d", "check --run-dir {here}/a --set data.cache={here}/d"),
        ("evaluate runs/a --votes 4", "evaluate --votes 4 {here}/runs/a"),
        (
            "evaluate A=runs/a s3://b/c?x=y --surrogate s/1 --surrogate=/s/2 --out report",
            "evaluate --surrogate {here}/s/1 --surrogate /s/2 --out {here}/report A={here}/runs/a s3://b/c?x=y",
        ),
        ("evaluate a B=a --samples a", "evaluate --samples {here}/a {here}/a B={here}/a"),  # the same text thrice
        ("attack runs/a --epsilon 1e-1 --out set", "attack --epsilon 0.1 --out {here}/set {here}/runs/a"),
        ("data prepare images out", "data prepare {here}/images {here}/out"),
        ("data prepare mnist out --data-root raw", "data prepare --data-root {here}/raw mnist {here}/out"),
        ("verify --share 0.5 -- -run", "verify --share 0.5 {here}/-run"),
        ("presets -- -x", "presets -- -x"),
        ("presets", "presets"),
    ],
)
def test_places_become_absolute_and_all_else_stays(given: str, sent: str, here: Path) -> None:
    sent = sent.format(here=here, above=here.parent, home=Path.home())
    assert list(made(given, here).command) == ["glr-dist", *sent.split()]


@pytest.mark.parametrize("name", sorted({*main.commands} - {"submit", "jobs"}))
def test_every_parameter_that_speaks_of_a_folder_has_the_type_of_places(name: str) -> None:
    command = main.commands[name]
    for each in command.commands.values() if isinstance(command, click.Group) else (command,):
        for parameter in each.params:
            if re.search("DIR|CHECKPOINT|RUN|SURROGATE|OUT", f"{parameter.metavar} {parameter.name}".upper()):
                assert isinstance(parameter.type, Place), f"{each.name} {parameter.name}"


def test_what_travels_and_what_stays_is_told(here: Path) -> None:
    entrypoint = made("train ./mine.toml --run-dir out --data-root images --surrogate bp/run --set data.cache=c", here)
    assert entrypoint.files == ("mine.toml",)
    assert set(entrypoint.apart) == {here / "out", here / "images", here / "bp/run", here / "c"}
    assert made("train --run-dir s3://bucket/run", here).apart == ()


@pytest.mark.parametrize(
    ("command", "flag", "place"),
    [("train", "--run-dir", "runs/mnist-conv-2"), ("tune --seconds 60.0", "--out", "tuned/mnist-conv-2")],
)
def test_results_without_a_place_get_one_that_outlives_the_job(command: str, flag: str, place: str, here: Path) -> None:
    entrypoint = make_entrypoint(main, [*command.split(), "mnist-conv"], here, places_of_results)
    *given, named, result, preset = entrypoint.command[1:]
    assert (given, named, preset) == (command.split(), flag, "mnist-conv")
    assert result.startswith(f"{here}/{place}")
    assert entrypoint.apart == (Path(result),)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("", "submit --: nothing to run; give a command"),
        ("data", "submit -- data: nothing to run"),
        ("trian", "submit -- trian: no command that a job can run; did you mean 'train'"),
        ("data prepair", "submit -- data prepair: no command that a job can run; did you mean 'prepare'"),
        ("submit -- train", "no command that a job can run"),
        ("train none.toml", "none.toml: no such file"),
        ("train mnist-treshold", "preset 'mnist-treshold': unknown; did you mean 'mnist-threshold'?"),
        ("train ../other.toml", "lies outside the current folder"),
        ("attack runs/a --epsilon 0.1", "give --out DIR"),
        ("train --stpes 4", "No such option"),
    ],
)
def test_what_cannot_be_a_job_is_refused_before_a_cluster_is_sought(given: str, line: str, here: Path) -> None:
    refused(call("submit", "--address", "http://127.0.0.1:1", "--", *given.split()), line)


def test_a_refusal_by_the_command_itself_keeps_its_kind(here: Path) -> None:
    with pytest.raises(click.UsageError):
        made("train --stpes 4", here)
    with pytest.raises(UserError):
        made("jobs", here)
