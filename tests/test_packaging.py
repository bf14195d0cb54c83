"""The wheel and the source archive: built, installed into an environment of their own, and used there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "glr_dist"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel that was made of it."""
    source, out = tmp_path_factory.mktemp("source") / "glr_dist", tmp_path_factory.mktemp("dist")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):  # what is committed, without what builds leave beside it
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=_plain())
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def _plain() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def test_wheel_and_archive_hold_the_whole_package(built: Path) -> None:
    (wheel,), (archive,) = built.glob("*.whl"), built.glob("*.tar.gz")
    wanted = {
        str(file.relative_to(ROOT))
        for end in ("py", "toml", "css", "tsv", "json")
        for file in PACKAGE.rglob(f"*.{end}")
    }
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert wanted - packed == set()
    assert {name.split("/")[0] for name in packed} == {
        "glr_dist",
        wheel.name[: -len("-py3-none-any.whl")] + ".dist-info",
    }
    with tarfile.open(archive) as file:
        inside = {name.partition("/")[2] for name in file.getnames()}
    assert wanted | {"README.md", "LICENSE", "pyproject.toml"} <= inside


def test_the_metadata_say_what_pyproject_says(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    said = message_from_string(archive.read(name).decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (said["Name"], said["Version"], said["Requires-Python"]) == (project["name"], project["version"], ">=3.11")
    assert set(said.get_all("Provides-Extra") or []) == set(project["optional-dependencies"])
    plain = [line for line in said.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert sorted(re.sub(r"\s", "", line) for line in plain) == sorted(project["dependencies"])
    assert "Programming Language :: Python :: 3.11" in (said.get_all("Classifier") or [])
    assert said["Description-Content-Type"] == "text/markdown"


def test_the_wheel_works_in_an_environment_of_its_own(built: Path, tmp_path: Path) -> None:
    """With the dependencies of this one, which pip would take minutes to bring again; the package is the wheel's."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=True)
    python, (wheel,) = home / "bin/python", built.glob("*.whl")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=120, env=_plain())
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    Path(purelib, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = home / "bin/glr-dist"

    def run(*arguments: str) -> str:
        environment = _plain() | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = subprocess.run(
            [command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-c", "import glr_dist; print(glr_dist.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=_plain(),
    )
    assert where.stdout.startswith(str(home))
    assert run("--version").startswith("glr-dist, version")
    assert "mnist-certified" in run("presets")
    result = json.loads(run("train", "--steps", "3", "--workers", "0", "--run-dir", "run", "--json").splitlines()[-1])
    assert result["steps"] == 3
    run("report", "run", "--html", "page.html")
    assert "<style>" in (tmp_path / "page.html").read_text()
