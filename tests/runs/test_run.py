"""The run's folder: made once, never over another."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from glr_dist.errors import UserError
from glr_dist.runs.run import create_run, open_run


def test_a_run_is_made_and_opened_again(tmp_path: Path) -> None:
    run = create_run(tmp_path / "runs" / "a", 'name = "é"\n')
    assert run.list() == ["config.toml"]
    again, config = open_run(tmp_path / "runs" / "a")
    assert (again, config) == (run, 'name = "é"\n')


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / ".tmp-0123-config.toml").write_text("left by a killed writer")
    create_run(tmp_path, "")
    assert open_run(tmp_path)[1] == ""


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=f"--run-dir {tmp_path} exists and is not empty: choose.*--resume"):
        create_run(tmp_path, "")
    with pytest.raises(UserError, match="--run-dir"):
        create_run(tmp_path / "thesis.tex", "")
    with pytest.raises(UserError, match="cannot write"):
        create_run(tmp_path / "thesis.tex" / "run", "")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("thesis.tex", "mine")]


def test_of_many_that_start_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    won: list[str] = []
    lost: list[str] = []
    barrier = threading.Barrier(8)

    def start(number: int) -> None:
        barrier.wait()
        try:
            create_run(tmp_path / "new", str(number))
        except UserError as error:
            lost.append(str(error))
            return
        won.append(str(number))

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [open_run(tmp_path / "new")[1]]
    assert sum("exists and is not empty" in message for message in lost) == 7


def test_a_run_that_cannot_be_written_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(UserError, match="no space left"):
        create_run(small_disk / "run", "#" * 10**6)
    assert list((small_disk / "run").iterdir()) == []
    create_run(small_disk / "run", "")


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a run: there is no such folder"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not a run: it has no config\.toml"):
        open_run(tmp_path)
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"config\.toml is damaged"):
        open_run(tmp_path)
