"""``glr-dist config`` tells of every key, and the shell completes what has a name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call, refused

from glr_dist.attacks.attack import ATTACKS
from glr_dist.commands import completion
from glr_dist.config import Config, preset_names
from glr_dist.settings import keys_of

ROOT = Path(__file__).resolve().parents[2]


def test_every_key_has_a_line_of_its_own() -> None:
    every = list(keys_of(Config))
    assert len(every) > 60
    assert [key.name for key in every if len(key.text) < 8] == []
    assert {"noise.scale", "optimizer.lr", "data.label", "model.factory", "steps"} <= {key.name for key in every}


def test_a_key_and_a_table_of_keys() -> None:
    told = call("config", "optimizer.lr").stdout
    assert told == "optimizer.lr = 0.003\ninitial (for one-cycle: highest) learning rate.\n"
    table = call("config", "noise").stdout
    assert all(key in table for key in ("noise.family", "noise.scale", "noise.source", "noise.table_size"))
    assert "optimizer" not in table
    assert "units.rows" in call("config").stdout
    refused(call("config", "lr"), "did you mean 'optimizer.lr'?")
    refused(call("config", "nois.scale"), "did you mean 'noise.scale'?")


def completed(*words: str) -> set[str]:
    """What bash is offered for the last of these words."""
    program = "from glr_dist.cli import main\nmain(prog_name='glr-dist')"
    env = os.environ | {
        "_GLR_DIST_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("glr-dist", *words)),
        "COMP_CWORD": str(len(words)),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return {line.partition(",")[2] for line in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("train", "mnist-"), {name for name in preset_names() if name.startswith("mnist-")} | {"mnist-"}),
        (("train", "--method", "b"), {"bp", "bp-noise"}),
        (("train", "--loss", "c"), {"cross-entropy", "certified", "certified-zero-one", "c"}),
        (("train", "--set", "noise.s"), {"noise.scale=", "noise.source="}),
        (("evaluate", "--attack", "p"), {"pgd"}),
        (("config", "optimizer.l"), {"optimizer.lr"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_shell_completes_names(words: tuple[str, ...], offered: set[str]) -> None:
    assert completed(*words) == offered


def test_every_attack_is_offered() -> None:
    assert set(completion.ATTACKS) == set(ATTACKS)
