"""One flipped bit in a file of a run: found before anything is decoded, named, and the way back offered."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_runs import contents, outcome, resume_small, train_small

from glr_dist.engine.callbacks import Progress
from glr_dist.errors import UserError


def flip_one_bit(path: Path, seed: int) -> None:
    """Any bit of the file."""
    data = bytearray(path.read_bytes())
    bit = random.Random(seed).randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def offered(message: str) -> Path:
    """The checkpoint that an error message offers."""
    found = re.search(r"before it: (?:--resume )?(\S+/checkpoints/step-\d+)", message)
    assert found, message
    return Path(found[1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcome of an undisturbed run, and one that was interrupted at step 11: checkpoints 4, 8 and 11."""
    folder = tmp_path_factory.mktemp("runs")

    def stop(progress: Progress) -> None:
        if progress.step == 11:
            raise KeyboardInterrupt

    train_small(folder / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_small(folder / "parts", show=stop)
    return {"whole": outcome(folder / "whole"), "parts": folder / "parts"}


@pytest.mark.parametrize("name", ["weights.safetensors", "training.pt", "meta.json"])
@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_in_a_checkpoint(name: str, seed: int, runs: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs["parts"], tmp_path / "run"))
    flip_one_bit(folder / "checkpoints" / "step-000011" / name, seed)
    with pytest.raises(UserError, match=rf"step-000011 is (damaged|cut short): {name}") as caught:
        resume_small(folder)
    assert offered(str(caught.value)) == (folder / "checkpoints" / "step-000008")
    resume_small(offered(str(caught.value)))
    assert outcome(folder) == runs["whole"]


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_in_the_journal(seed: int, runs: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs["parts"], tmp_path / "run"))
    (block,) = (folder / "journal").glob("steps-00000005-00000008-*")
    flip_one_bit(block, seed)
    before = contents(folder)
    with pytest.raises(UserError, match=rf"journal file {re.escape(str(block))} is damaged") as caught:
        resume_small(folder)
    assert contents(folder) == before
    assert offered(str(caught.value)) == (folder / "checkpoints" / "step-000004")
    resume_small(offered(str(caught.value)))
    assert outcome(folder) == runs["whole"]


def test_a_checkpoint_and_the_journal_before_it(runs: dict[str, Any], tmp_path: Path) -> None:
    """What is offered is sound itself."""
    folder = Path(shutil.copytree(runs["parts"], tmp_path / "run"))
    flip_one_bit(next((folder / "journal").glob("steps-00000009-*")), 0)
    flip_one_bit(folder / "checkpoints" / "step-000008" / "weights.safetensors", 0)
    with pytest.raises(UserError, match="is damaged") as caught:
        resume_small(folder)
    assert offered(str(caught.value)) == (folder / "checkpoints" / "step-000004")
    resume_small(offered(str(caught.value)))
    assert outcome(folder) == runs["whole"]
