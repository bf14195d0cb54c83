"""Networks and losses of one's own from the command line: trained, kept in the run's folder, found there again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import SMALL, call, last_json, refused

MINE = """
import torch
from torch import nn
import sizes
from glr_dist import Heaviside

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.one = nn.Linear(torch.Size(shape).numel(), sizes.HIDDEN)
        self.two, self.three = nn.Linear(sizes.HIDDEN, sizes.HIDDEN), nn.Linear(sizes.HIDDEN, classes)
        self.step = Heaviside()

    def forward(self, x):
        bits = self.step(self.one(x.flatten(1)))
        return self.three(bits + self.step(self.two(bits)))

def costs(outputs, labels):
    return (outputs.argmax(-1) != labels).float() * (1.0 + labels)

def broken(outputs, labels):
    return deeper(outputs)

def deeper(outputs):
    raise ValueError("no such thing")
"""


@pytest.fixture
def mine(here: Path) -> Path:
    (here / "mine.py").write_text(MINE)
    (here / "sizes.py").write_text("HIDDEN = 9\n")
    return here


def train_it(*more: str) -> dict[str, object]:
    own = ["--model", "mine.py:Net", "--loss", "mine.py:costs"]
    return last_json(call("train", *SMALL, *own, "--steps", "4", "--run-dir", "run", "--json", *more))


def test_the_run_keeps_the_code_and_every_command_finds_it_there(mine: Path, tmp_path: Path) -> None:
    report = train_it()
    kept = {path.relative_to(mine / "run" / "code").as_posix() for path in (mine / "run" / "code").rglob("*.py")}
    assert kept == {"model/mine.py", "model/sizes.py", "loss/mine.py", "loss/sizes.py"}
    shutil.move(mine / "run", tmp_path / "run")
    (mine / "mine.py").write_text("raise SystemExit(9)\n")  # what is here now is not what was trained
    run = str(tmp_path / "run")
    for command in ("evaluate", "replay", "verify"):
        refused(call(command, run), "'mine.py:Net'", "--trust-model")
    assert last_json(call("evaluate", run, "--trust-model", "--json"))["accuracy"] == report["test_accuracy"]
    assert last_json(call("replay", run, "--trust-model", "--json"))["equal"] is True
    assert last_json(call("verify", run, "--trust-model", "--share", "1", "--json"))["differences"] == []
    refused(call("train", "--resume", run, "--steps", "6"), "'mine.py:Net'", "--trust-model")
    assert last_json(call("train", "--resume", run, "--steps", "6", "--trust-model", "--json"))["steps"] == 6
    samples = ["--epsilon", "0.1", "--count", "8", "--workers", "0"]
    attacked = call("evaluate", run, "--attack", "random-signs", *samples, "--trust-model", "--json")
    assert attacked.exit_code == 0, attacked.stderr


def test_code_that_was_changed_in_the_runs_folder_is_not_run(mine: Path) -> None:
    train_it()
    with (mine / "run" / "code" / "model" / "mine.py").open("a") as file:
        file.write("open('RUN', 'w')\n")
    for command in ("evaluate", "replay", "verify"):
        refused(call(command, "run", "--trust-model"), "code/model/mine.py was changed since the run began")
    assert not (mine / "RUN").exists()


def test_the_config_names_what_was_typed_and_the_network_is_the_users(mine: Path) -> None:
    train_it()
    said = json.loads((mine / "run" / "provenance.json").read_text())
    assert (said["model"]["kind"], said["model"]["factory"], said["loss"]) == (
        "factory",
        "mine.py:Net",
        "mine.py:costs",
    )


def test_an_error_in_the_users_code_is_one_line_and_the_users_frames(mine: Path) -> None:
    result = call("train", *SMALL, "--loss", "mine.py:broken")
    first, *frames = result.stderr.splitlines()
    assert result.exit_code == 2
    assert first.startswith("Error: loss: raised ValueError: no such thing")
    told = [line.strip() for line in frames if "line" in line]
    assert [line.rpartition(" ")[2] for line in told] == ["broken", "deeper"]
    assert all(str(mine / "mine.py") in line for line in told)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_actors_train_it_to_the_same_bits(mine: Path) -> None:
    own = ["--model", "mine.py:Net", "--loss", "mine.py:costs"]
    report = last_json(call("train", *SMALL[2:], *own, "--steps", "4", "--workers", "2", "--json"))
    assert report["params_sha256"] == train_it()["params_sha256"]


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["--model", "mine.py:Nett"], ["model.factory (--model)", "mine.py has no 'Nett'", "did you mean 'Net'?"]),
        (["--model", "min.py:Net"], ["there is no file 'min.py'", "did you mean 'mine.py'?"]),
        (["--model", "mine.py"], ["name the class or function in it: mine.py:Net"]),
        (["--model", "Net"], ["write it as FILE.py:NAME or MODULE:NAME"]),
        (["--loss", "mine.py:cost"], ["loss (--loss)", "did you mean 'costs'?"]),
        (["--loss", "cross_entropy"], ["loss = 'cross_entropy'", "did you mean 'cross-entropy'?"]),
        (
            ["--set", "model.factory=mine.py:Net"],
            ["changes nothing with model.kind = 'mlp'", "--set model.kind=factory"],
        ),
        (["--model", "mine.py:Net", "--set", "model.hidden=[9]"], ["model.hidden = [9]", "changes nothing"]),
        (["--model", "sizes:HIDDEN"], ["is of type int; name a class or a function"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_is_refused(mine: Path, args: list[str], mentions: list[str]) -> None:
    refused(call("train", *SMALL, *args), *mentions)
