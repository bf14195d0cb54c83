"""The command of a job: refused here where it can be, and with folders that are found on the cluster."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from glr_dist.errors import UserError
from glr_dist.launch.entrypoint import make_entrypoint


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("steps = 3\n")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("train mine.toml --run-dir out --steps 5", "train mine.toml --run-dir {here}/out --steps 5"),
        ("train mine.toml --run-dir=out", "train mine.toml --run-dir={here}/out"),
        ("train --run-dir 5 --steps 5", "train --run-dir {here}/5 --steps 5"),
        ("train --run-dir s3://bucket/run", "train --run-dir s3://bucket/run"),
        ("train --run-dir /shared/../run --data-root ../data", "train --run-dir /run --data-root {above}/data"),
        ("train --resume runs/a", "train --resume {here}/runs/a"),
        ("train {here}/mine.toml --run-dir /out", "train mine.toml --run-dir /out"),
        ("evaluate runs/a --votes 4", "evaluate {here}/runs/a --votes 4"),
        (
            "evaluate A=runs/a s3://b/c?x=y --surrogate s/1 --surrogate=/s/2 --out report",
            "evaluate A={here}/runs/a s3://b/c?x=y --surrogate {here}/s/1 --surrogate=/s/2 --out {here}/report",
        ),
        ("attack runs/a --epsilon 0.2 --out set", "attack {here}/runs/a --epsilon 0.2 --out {here}/set"),
        ("presets", "presets"),
    ],
)
def test_folders_become_absolute(given: str, sent: str, here: Path) -> None:
    places = {"here": here, "above": here.parent}
    entrypoint = make_entrypoint(given.format(**places).split(), here)
    assert list(entrypoint.command) == ["glr-dist", *sent.format(**places).split()]


def test_a_run_without_a_folder_gets_one_that_outlives_the_job(here: Path) -> None:
    entrypoint = make_entrypoint(["train", "mnist-conv"], here)
    assert entrypoint.run.startswith(f"{here}/runs/mnist-conv-2")
    assert entrypoint.command == ("glr-dist", "train", "--run-dir", entrypoint.run, "mnist-conv")


def test_what_travels_and_what_stays_is_told(here: Path) -> None:
    entrypoint = make_entrypoint(["train", "./mine.toml", "--run-dir", "out", "--data-root", "images"], here)
    assert entrypoint.config == "mine.toml"
    assert set(entrypoint.apart) == {here / "out", here / "images"}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("", "submit: nothing to run; give a command"),
        ("trian", "no command that a job can run; did you mean 'train'"),
        ("submit -- train", "no command that a job can run"),
        ("train none.toml", "none.toml: no such file"),
        ("train {above}/other.toml", "lies outside the current folder"),
        ("attack runs/a --epsilon 0.1", "give --out DIR"),
    ],
)
def test_what_cannot_be_a_job_is_refused_here(given: str, line: str, here: Path) -> None:
    (here.parent / "other.toml").write_text("")
    with pytest.raises(UserError, match=line):
        make_entrypoint(given.format(above=here.parent).split(), here)


def test_an_option_that_train_does_not_have_is_refused_here(here: Path) -> None:
    with pytest.raises(click.UsageError, match="No such option"):
        make_entrypoint(["train", "--stpes", "4"], here)


def test_a_surrogate_stays_where_it_is(here: Path) -> None:
    entrypoint = make_entrypoint(["train", "--augment", "fgsm", "--surrogate", "bp/run", "--run-dir", "out"], here)
    assert entrypoint.command[-5:] == ("fgsm", "--surrogate", str(here / "bp/run"), "--run-dir", str(here / "out"))
    assert set(entrypoint.apart) == {here / "out", here / "bp/run"}
