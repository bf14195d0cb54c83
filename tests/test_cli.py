"""The command line as a whole: quick help that names what scripts rely on, the version, and no command at all."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner, Result

import glr_dist
from glr_dist.cli import main


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def test_help_needs_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\nfrom glr_dist.cli import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'ray', 'numpy', 'pyarrow', 'rich'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_help_names_every_option_that_scripts_rely_on() -> None:
    text = call("train", "--help").stdout
    for option in (
        *(
            "--data-root",
            "--workers",
            "--reconstructors",
            "--gpus-per-worker",
            "--method",
            "--loss",
            "--seed",
        ),
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
