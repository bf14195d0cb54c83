"""Going back to a checkpoint: a journal with a hole or a damaged file is told before anything is dropped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import train_small

from glr_dist.runs.rewind import rewind
from glr_dist.store.checkpoint import checkpoint_steps
from glr_dist.store.journal import JournalError, JournalReader
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps: checkpoints and journal files at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_small(folder)
    return folder


def test_all_after_the_step_is_dropped(finished: Path, tmp_path: Path) -> None:
    run = Storage.at(shutil.copytree(finished, tmp_path / "run"))
    rewind(run, 6)
    assert JournalReader(run).steps() == range(1, 7)
    assert [line["step"] for line in read_metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert checkpoint_steps(run) == [4]
    rewind(run, 0)
    assert JournalReader(run).steps() == range(0)
    assert read_metrics(run) == []


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("steps-00000005-*", r"lacks steps 5 to 8; use the checkpoint before it: --resume .*/step-000004, or delete"),
        ("steps-00000009-*", r"lacks steps 9 to 12; use the checkpoint before it: --resume .*/step-000008, or delete"),
    ],
)
def test_a_missing_file_is_told(missing: str, message: str, finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    next((folder / "journal").glob(missing)).unlink()
    with pytest.raises(JournalError, match=message):
        rewind(Storage.at(folder), 12)
    assert len(list((folder / "journal").iterdir())) == 2  # nothing dropped


def test_without_a_checkpoint_before_it_there_is_none_to_offer(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    first = next((folder / "journal").glob("steps-00000001-*"))
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(
        JournalError, match=r"damaged or cut short.*; no checkpoint lies before it, or delete .*/journal"
    ):
        rewind(Storage.at(folder), 12)


def test_a_journal_that_was_deleted_as_a_whole_is_no_obstacle(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(folder / "journal")
    rewind(Storage.at(folder), 8)
    assert [line["step"] for line in read_metrics(Storage.at(folder))] == list(range(1, 9))
