"""Storage: whole files or none, nothing outside the folder, the same on other file systems."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from glr_dist.errors import UserError
from glr_dist.store.local import exchange
from glr_dist.store.storage import Storage


def test_what_is_written_is_read(folder: Storage) -> None:
    folder.write("a/b.bin", b"\x00\xff")
    folder.write("a/b.bin", b"second")
    folder.write("top", b"")
    assert folder.read("a/b.bin") == b"second"
    assert folder.read("top") == b""
    assert folder.list() == ["a", "top"]
    assert folder.list("a") == ["b.bin"]
    assert folder.folder("a").read("b.bin") == b"second"
    assert folder.folder("a").parent().read("top") == b""
    assert folder.folder("a").name == "a"


def test_delete_and_exists(folder: Storage) -> None:
    folder.write("a/b", b"x")
    assert folder.exists("a/b")
    assert folder.exists("a")
    folder.delete("a")
    folder.delete("a")
    assert not folder.exists("a/b")
    assert folder.list("a") == []
    with pytest.raises(FileNotFoundError):
        folder.read("a/b")


def test_a_folder_replaces_one_of_its_name(folder: Storage) -> None:
    folder.write_folder("c/step", {"one": b"1", "two": b"2", "mark": b"m"})
    folder.write_folder("c/step", {"one": b"3", "two": b"4", "mark": b"n"})
    assert [folder.read(f"c/step/{name}") for name in ("one", "two", "mark")] == [b"3", b"4", b"n"]
    assert folder.list("c") == ["step"]


def test_a_folder_replaces_another_where_names_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glr_dist.store.local.exchange", lambda one, other: False)
    folder = Storage.at(tmp_path)
    folder.write_folder("step", {"one": b"1", "gone": b"2"})
    folder.write_folder("step", {"one": b"3"})
    assert folder.read("step/one") == b"3"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["one", "step"]


def test_a_folder_is_replaced_without_a_moment_when_its_name_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Storage.at(tmp_path)
    folder.write_folder("step", {"one": b"1"})
    (tmp_path / "other").mkdir()
    if not exchange(tmp_path / "step", tmp_path / "other"):
        pytest.skip("this system cannot exchange two names")
    monkeypatch.delattr(Path, "rename")
    folder.write_folder("step", {"one": b"2"})
    assert folder.read("step/one") == b"2"


@pytest.mark.parametrize("path", ["..", "a/../../b", "/etc/passwd", "a\\b", "a//b", "./a", "a/", "a\0b"])
def test_nothing_leaves_the_folder(folder: Storage, path: str) -> None:
    calls = (
        folder.read,
        folder.exists,
        folder.list,
        folder.delete,
        folder.folder,
        folder.clean,
        lambda name: folder.write(name, b""),
        lambda name: folder.write_folder(name, {"a": b""}),
    )
    for call in calls if folder.local else calls[:5]:
        with pytest.raises(ValueError, match="not a plain relative path"):
            call(path)


def test_a_failed_write_keeps_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Storage.at(tmp_path)
    folder.write("file", b"former")

    def no_space(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=f"no space left to write {tmp_path}/file.*--run-dir"):
        folder.write("file", b"new")
    with pytest.raises(UserError, match="no space left"):
        folder.write_folder("step", {"a": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert folder.read("file") == b"former"


def test_a_full_disk_leaves_no_half_written_file(small_disk: Path) -> None:
    folder = Storage.at(small_disk)
    folder.write("kept", b"k" * 1000)
    with pytest.raises(UserError, match=f"no space left to write {small_disk}/big"):
        folder.write("big", b"b" * 10**6)
    with pytest.raises(UserError, match=f"no space left to write {small_disk}/step"):
        folder.write_folder("step", {"small": b"s", "big": b"b" * 10**6})
    assert [path.name for path in small_disk.iterdir()] == ["kept"]
    folder.write("fits", b"f" * 100_000)
    assert folder.read("kept") == b"k" * 1000


def test_leftovers_of_a_killed_writer_are_hidden_and_cleaned(tmp_path: Path) -> None:
    folder = Storage.at(tmp_path)
    (tmp_path / ".tmp-0123-step-1").mkdir()
    (tmp_path / ".tmp-0123-step-1" / "half").write_bytes(b"h")
    (tmp_path / ".tmp-4567-metrics.jsonl").write_bytes(b"h")
    (tmp_path / "metrics.jsonl").write_bytes(b"whole")
    assert folder.list() == ["metrics.jsonl"]
    folder.clean("", "metrics.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp-0123-step-1", "metrics.jsonl"]
    folder.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_file_in_the_way_is_the_users_to_move(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(b"")
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/journal/a"):
        Storage.at(tmp_path).write("journal/a", b"")


def test_uris_keep_their_query_and_hide_their_password() -> None:
    storage = Storage(fs=None, root="bucket/runs", uri="s3://key:secret@bucket/runs?region=x")
    below = storage.folder("a/b")
    assert below.uri == "s3://key:secret@bucket/runs/a/b?region=x"
    assert below.root == "bucket/runs/a/b"
    assert str(below) == "s3://bucket/runs/a/b?region=x"
    assert below.parent().parent() == storage


def test_places_that_mean_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage.at("x/../y").uri == Storage.at(f"file://{tmp_path}/y").uri == f"{tmp_path}/y"
    assert pickle.loads(pickle.dumps(Storage.at("y"))).uri == f"{tmp_path}/y"


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(UserError, match="cannot open ftp9://h/x"):
        Storage.at("ftp9://user:word@h/x")
