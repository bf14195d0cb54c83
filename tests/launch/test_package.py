"""What travels with a job, and what stays behind."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from glr_dist.errors import UserError
from glr_dist.launch.package import pack_folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder as users have them."""
    files = (
        "mine.toml",
        "nets/tiny.py",
        "nets/data/__init__.py",  # a package that is called data
        "data/MNIST/raw/images",
        "runs/first/config.toml",
        "results/first/config.toml",  # a run under another name
        "results/first/metrics.jsonl",
        "results/notes.txt",
        "tools/pyvenv.cfg",
        "tools/bin/python",
        ".git/config",
        ".env",
        ".ray/auth_token",
        "nets/__pycache__/tiny.pyc",
        "nets.egg-info/PKG-INFO",
        "token",
    )
    for name in files:
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "project"


def test_only_the_users_own_files_travel(project: Path, tmp_path: Path) -> None:
    packed = pack_folder(project, tmp_path / "a.zip", apart=[project / "token"])
    assert packed == ["mine.toml", "nets/data/__init__.py", "nets/tiny.py", "results/notes.txt"]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {name: name for name in packed}


def test_patterns_match_paths_and_names(project: Path, tmp_path: Path) -> None:
    packed = pack_folder(project, tmp_path / "a.zip", exclude=["results/", "tiny.*", "token"])
    assert packed == ["mine.toml", "nets/data/__init__.py"]


def test_a_program_stays_one(project: Path, tmp_path: Path) -> None:
    (project / "mine.toml").chmod(0o755)
    pack_folder(project, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.getinfo("mine.toml").external_attr >> 16 & 0o777 == 0o755


def test_too_much_is_refused_before_anything_is_written(project: Path, tmp_path: Path) -> None:
    (project / "film.bin").write_bytes(b"x" * 3_000_000)
    (project / "nets" / "weights.bin").write_bytes(b"x" * 1_500_000)
    with pytest.raises(
        UserError, match=r"4\.5 MB, at most 2 MB; the biggest: film\.bin 3\.0 MB, nets/ 1\.5 MB, .*--exclude"
    ):
        pack_folder(project, tmp_path / "a.zip", limit=2_000_000)
    assert not (tmp_path / "a.zip").exists()


def test_a_link_to_a_folder_is_not_followed(project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "big").write_text("big")
    (project / "link").symlink_to(tmp_path / "elsewhere")
    (project / "loop").symlink_to(project)
    (project / "broken").symlink_to(tmp_path / "nothing")
    assert not {"link/big", "loop/mine.toml", "broken"} & set(pack_folder(project, tmp_path / "a.zip"))
