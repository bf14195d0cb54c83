"""All shell of the project, in scripts, YAML and README, against shellcheck; the Dockerfile against hadolint."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from recipes import CLUSTER, ROOT, load, shell_scripts, snippets

BIN = Path(sys.executable).parent  # both linters come with the dev extra


def shellcheck(*arguments: str, text: str | None = None) -> str:
    """Its complaints; SC1091: a file that is sourced lies outside the project."""
    command = [str(BIN / "shellcheck"), "--exclude=SC1091", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True).stdout


def test_scripts_are_clean() -> None:
    scripts = shell_scripts()
    assert {path.name for path in scripts} >= {"setup", "quickstart", "test", "run", "slurm.sh", "train-or-resume"}
    assert shellcheck(*map(str, scripts)) == ""


@pytest.mark.parametrize("place", snippets())
def test_shell_in_yaml_and_readme_is_clean(place: str) -> None:
    assert shellcheck("--shell=bash", "-", text=snippets()[place]) == ""


def test_shellcheck_runs() -> None:
    assert "SC2086" in shellcheck("--shell=bash", "-", text="rm $unquoted\n")


def test_dockerfile_is_clean() -> None:
    subprocess.run([str(BIN / "hadolint"), str(CLUSTER / "Dockerfile")], check=True)


def dockerfile() -> list[str]:
    """Its instructions, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (CLUSTER / "Dockerfile").read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_image_is_pinned_and_runs_as_the_user_that_the_pods_name() -> None:
    lines = dockerfile()
    assert [line for line in lines if line.startswith("FROM ")] == ["FROM python:3.11-slim"]
    (install,) = [line for line in lines if "pip install" in line]
    assert "PIP_CONSTRAINT=constraints.txt" in install
    assert [line for line in lines if line.startswith("USER ")][-1] == "USER 1000:1000"
    head = load(CLUSTER / "kuberay" / "raycluster.yaml")["spec"]["headGroupSpec"]
    assert head["template"]["spec"]["securityContext"]["runAsUser"] == 1000


def test_image_copies_what_exists() -> None:
    copied = [word for line in dockerfile() if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert {"constraints.txt", "glr_dist", "cluster/train-or-resume"} <= set(copied)
    assert [word for word in copied if not (ROOT / word).exists()] == []
