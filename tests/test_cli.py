"""The command line as a whole: quick help that names what scripts rely on, the version, and no command at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

import glr_dist
from glr_dist.cli import main


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


LINES = [  # with their exit codes, the lightest first
    ("train --help", 0, "torch ray numpy pyarrow rich"),
    ("evaluate --help", 0, "torch ray numpy pyarrow rich"),
    ("tune --help", 0, "torch ray numpy pyarrow rich"),
    ("presets", 0, "torch ray numpy pyarrow"),
    ("presets digits", 2, "torch ray numpy pyarrow"),
    ("train digits-treshold", 2, "torch ray numpy pyarrow"),
    ("train --set nosuch.key=1", 2, "torch ray numpy pyarrow"),
    ("train --workers -3", 2, "torch ray numpy pyarrow"),
    ("check nosuch.toml", 2, "torch ray numpy pyarrow"),
    ("evaluate run --epsilon 0.1", 2, "torch ray numpy pyarrow"),
    ("submit -- train nosuch.toml", 2, "torch ray numpy pyarrow"),
    ("submit -- attack run", 2, "torch ray numpy pyarrow"),
    ("jobs --address nowhere", 2, "torch ray numpy pyarrow"),
    ("data prepare nosuch out", 2, "torch ray"),
]


def test_what_needs_no_heavy_library_imports_none(tmp_path: Path) -> None:
    """In a process of its own, where a library that one line imported would be there for the next. Torch takes seconds."""
    program = f"""
import sys
from glr_dist.cli import main
for line, code, heavy in {LINES}:
    try: main(line.split())
    except SystemExit as end: assert end.code == code, (line, end.code)
    assert not set(heavy.split()) & set(sys.modules), (line, set(heavy.split()) & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_help_names_every_option_that_scripts_rely_on() -> None:
    text = call("train", "--help").stdout
    for option in (
        *("--data-root", "--workers", "--reconstructors", "--gpus-per-worker", "--method", "--loss", "--seed"),
        *("--steps", "--seconds", "--run-dir", "--resume", "--journal", "--set", "--json"),
    ):
        assert f"{option} " in text, option
    text = call("evaluate", "--help").stdout
    for option in ("--dataset", "--data-root", "--split", "--votes", "--trust-model", "--json"):
        assert f"{option} " in text, option


def test_the_version() -> None:
    assert call("--version").stdout == f"glr-dist, version {glr_dist.__version__}\n"


def test_without_a_command_the_help_comes_and_the_exit_code_is_2() -> None:
    result = call()
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage:")
    assert "train" in result.stderr
