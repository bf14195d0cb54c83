"""scripts/setup with a stand-in for Python that writes down every call to pip instead of installing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CANDIDATES = ("python3", "python3.11", "python3.12", "python3.13", "python3.14")

# Makes an environment that holds a copy of itself; all but venv and pip is left to the real Python.
STAND_IN = f"""#!/bin/sh
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip install"*)
        echo "$PIP_CONSTRAINT $*" >>calls
        touch .venv/half-installed
        sleep "${{PIP_SECONDS:-0}}"
        exit "${{PIP_STATUS:-0}}" ;;
    *) exec "{sys.executable}" "$@" ;;
esac
"""


class Project:
    """A small project with a copy of scripts/setup, seen by a shell whose Pythons are all stand-ins."""

    def __init__(self, root: Path) -> None:
        self.root = root / "a project"
        self.bin = root / "bin"
        (self.root / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "scripts" / "setup", self.root / "scripts" / "setup")
        (self.root / "pyproject.toml").write_text("[project]\n")
        (self.root / "constraints.txt").write_text("torch==2.15.0\n")
        self.set_python(STAND_IN)

    def set_python(self, text: str) -> None:
        for name in CANDIDATES:
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.root / "scripts" / "setup"), *arguments],
            cwd="/",
            env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def setup(self, *arguments: str, **environment: str) -> tuple[int, str]:
        with self.start(*arguments, **environment) as process:
            output, error = process.communicate(timeout=30)
        assert output == "", "standard output belongs to the command that follows"
        return process.returncode, error

    @property
    def calls(self) -> list[str]:
        """What pip was asked to install, call by call."""
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        assert all(line.startswith("constraints.txt -m pip install") for line in lines)
        return [line.rpartition(" ")[2] for line in lines]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_second_setup_calls_no_pip(project: Project) -> None:
    assert project.setup()[0] == 0
    assert project.setup() == (0, "")
    assert project.calls == ["."]


def test_dev_setup_serves_the_plain_one_but_not_the_other_way_round(project: Project) -> None:
    for arguments in [(), ("dev",), (), ("dev",)]:
        assert project.setup(*arguments)[0] == 0
    assert project.calls == [".", ".[dev]"]


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_changed_versions_are_installed(project: Project, file: str) -> None:
    project.setup()
    with (project.root / file).open("a") as stream:
        stream.write("# newer\n")
    assert project.setup()[0] == 0
    assert project.calls == [".", "."]


def test_moved_project_is_installed_again(project: Project, tmp_path: Path) -> None:
    project.setup()
    project.root = project.root.rename(tmp_path / "elsewhere")
    assert project.setup()[0] == 0
    assert project.calls == [".", "."]


def test_failed_setup_is_told_and_started_afresh(project: Project) -> None:
    assert project.setup(PIP_STATUS="1")[0] == 1
    (project.root / ".venv" / "left-over").touch()
    assert project.setup()[0] == 0
    assert not (project.root / ".venv" / "left-over").exists()
    assert project.setup() == (0, "")
    assert project.calls == [".", "."]


def test_killed_setup_is_started_afresh(project: Project) -> None:
    process = project.start(PIP_SECONDS="2")
    with process:
        half_installed = project.root / ".venv" / "half-installed"
        while not half_installed.exists():
            assert process.poll() is None
        process.kill()
    (project.root / ".venv" / "left-over").touch()
    assert project.setup()[0] == 0
    assert not (project.root / ".venv" / "left-over").exists()
    assert project.calls == [".", "."]


def test_environment_made_by_hand_is_kept(project: Project) -> None:
    (project.root / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(project.bin / "python3", project.root / ".venv" / "bin" / "python")
    (project.root / ".venv" / "by-hand").touch()
    assert project.setup()[0] == 0
    assert (project.root / ".venv" / "by-hand").exists()


def test_environment_whose_python_is_gone_is_made_anew(project: Project) -> None:
    project.setup()
    (project.root / ".venv" / "bin" / "python").unlink()
    assert project.setup()[0] == 0
    assert project.calls == [".", "."]


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_two_setups_at_once_install_once(project: Project) -> None:
    with project.start(PIP_SECONDS="0.5") as first, project.start(PIP_SECONDS="0.5") as second:
        assert [first.wait(30), second.wait(30)] == [0, 0]
    assert project.calls == ["."]


def test_no_suitable_python_is_one_clear_line(project: Project) -> None:
    project.set_python("#!/bin/sh\nexit 1\n")
    status, error = project.setup()
    assert status == 2
    assert len(error.splitlines()) == 1
    assert "Python 3.11 or newer" in error
