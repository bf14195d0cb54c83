"""What travels with a job, and what stays behind."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from command_line import call

from glr_dist.errors import UserError
from glr_dist.launch.package import choose_files, pack_files


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
    chosen = choose_files(project, apart=[project / "token"])
    packed = list(chosen.sizes)
    pack_files(project, packed, tmp_path / "a.zip")
    assert packed == ["mine.toml", "nets/data/__init__.py", "nets/tiny.py", "results/notes.txt"]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {name: name for name in packed}


def test_patterns_match_paths_and_names(project: Path) -> None:
    packed = list(choose_files(project, exclude=["results/", "tiny.*"]).sizes)
    assert packed == ["mine.toml", "nets/data/__init__.py"]


def test_a_program_stays_one(project: Path, tmp_path: Path) -> None:
    (project / "mine.toml").chmod(0o755)
    pack_files(project, choose_files(project).sizes, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.getinfo("mine.toml").external_attr >> 16 & 0o777 == 0o755


def test_too_much_is_refused(project: Path) -> None:
    (project / "film.bin").write_bytes(b"x" * 3_000_000)
    (project / "nets" / "weights.bin").write_bytes(b"x" * 1_500_000)
    with pytest.raises(
        UserError, match=r"4\.5 MB, at most 2 MB; the biggest: film\.bin 3\.0 MB, nets/ 1\.5 MB, .*--exclude"
    ):
        choose_files(project, limit=2_000_000)


def test_a_link_to_a_folder_is_not_followed(project: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "big").write_text("big")
    (project / "link").symlink_to(tmp_path / "elsewhere")
    (project / "loop").symlink_to(project)
    (project / "broken").symlink_to(tmp_path / "nothing")
    assert not {"link/big", "loop/mine.toml", "broken"} & set(choose_files(project).sizes)


SECRETS = [
    "id_rsa",
    "deploy/host.PEM",
    "tls.key",
    "credentials.json",
    "auth_token",
    "hf_token",
    "AWS_Secrets.toml",
    "db.password",
]
SECRETS += ["service-account.json", "terraform.tfstate", "prod.env", "kubeconfig.yaml"]


def test_what_is_called_like_a_secret_stays_behind_and_is_named(project: Path, tmp_path: Path) -> None:
    for name in SECRETS:
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("secret")
    (tmp_path / "elsewhere.txt").write_text("another's")
    (project / "notes.txt").symlink_to(tmp_path / "elsewhere.txt")
    (project / "innocent.txt").symlink_to(project / "id_rsa")
    (project / "config.txt").symlink_to(project / ".git" / "config")
    (project / "same.toml").symlink_to(project / "mine.toml")
    for code in ("secrets.py", "tokenizer.json", "keys.py", "monkey.txt"):
        (project / code).write_text("code")
    chosen = choose_files(project)
    usual = ["mine.toml", "nets/data/__init__.py", "nets/tiny.py", "results/notes.txt"]
    assert list(chosen.sizes) == sorted([*usual, "keys.py", "monkey.txt", "same.toml", "secrets.py", "tokenizer.json"])
    assert list(chosen.secrets) == sorted([*SECRETS, "token", "config.txt", "innocent.txt", "notes.txt"])


def test_a_dry_run_lists_what_would_travel_and_sends_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "id_rsa").write_text("secret")
    monkeypatch.chdir(project)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # where nobody listens
    place = "s3://key:pass/word@bucket/run"
    result = call("submit", "--dry-run", "--", "train", "mine.toml", "--run-dir", place)
    assert result.exit_code == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines()] == [
        *("mine.toml", "nets/data/__init__.py", "nets/tiny.py", "results/notes.txt")
    ]
    assert "stays behind, since it is called like a secret or is a link to what stays: id_rsa, token" in result.stderr
    assert "would run: glr-dist train --run-dir s3://bucket/run mine.toml" in result.stderr
    assert "pass" not in result.output
