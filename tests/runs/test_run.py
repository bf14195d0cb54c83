"""The run's folder: made once, never over another; what it tells, and how one goes back in it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import contents, digits, resume_small, small_config, train_small

from glr_dist.errors import UserError
from glr_dist.runs.card import RunCard
from glr_dist.runs.run import RunStore, resume_line
from glr_dist.store.checkpoint import CheckpointError
from glr_dist.store.journal import JournalError, JournalReader
from glr_dist.store.lock import written_alone
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage


def card(seed: int = 0) -> RunCard:
    config = dataclasses.replace(small_config(), seed=seed)
    return RunCard.of(config, digits(), fold=True, surrogate=None, own_model=True, own_loss=False)


def create(place: Path, seed: int = 0) -> RunStore:
    return RunStore.create(place, dataclasses.replace(small_config(), seed=seed), card(seed))


def test_a_run_is_made_and_opened_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".tmp-0123-config.toml").write_text("left by a killed writer")
    run = create(tmp_path / "a")
    assert run.folder.list() == ["config.toml", "provenance.json"]
    again, step = RunStore.at(tmp_path / "a")
    assert (again, step) == (run, None)
    assert again.config() == small_config()
    assert again.card() == card()
    assert (again.steps(), again.newest_sound()) == ([], None)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for place, message in (
        (tmp_path, f"--run-dir {tmp_path} exists and is not empty: choose.*--resume"),
        (tmp_path / "thesis.tex", "exists and is not empty"),
        (tmp_path / "thesis.tex" / "run", "cannot write"),
    ):
        with pytest.raises(UserError, match=message):
            create(place)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("thesis.tex", "mine")]


def test_of_many_that_start_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    won: list[int] = []
    lost: list[str] = []
    barrier = threading.Barrier(8)

    def start(seed: int) -> None:
        barrier.wait()
        try:
            create(tmp_path / "new", seed)
        except UserError as error:
            lost.append(str(error))
            return
        won.append(seed)

    threads = [threading.Thread(target=start, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [RunStore.at(tmp_path / "new")[0].config().seed]
    assert sum("exists and is not empty" in message for message in lost) == 7


def test_a_run_that_cannot_be_written_leaves_nothing(small_disk: Path) -> None:
    large = dataclasses.replace(card(), classes=("#" * 10**6,))
    with pytest.raises(UserError, match="no space left"):
        RunStore.create(small_disk / "run", small_config(), large)
    assert list((small_disk / "run").iterdir()) == []
    create(small_disk / "run")


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a run: there is no such folder"):
        RunStore.at(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is not a run: it has no config\.toml"):
        RunStore.at(tmp_path)
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"config\.toml is damaged"):
        RunStore.at(tmp_path)


def test_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing to resume" in resume_line(tmp_path / "run")
    create(tmp_path / "a run")
    monkeypatch.chdir(tmp_path)
    assert resume_line("a run") == "interrupted; continue with: glr-dist train --resume 'a run'"
    assert resume_line("a run/checkpoints/step-000001").endswith(f"--resume '{tmp_path}/a run'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "provenance.json is damaged"),
        ("[]", "it holds no table"),
        ('{"model": {}}', "what its run is made of"),
    ],
)
def test_damaged_provenance_is_told(text: str, message: str, tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    (tmp_path / "run" / "provenance.json").write_text(text)
    with pytest.raises(UserError, match=message):
        run.card()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps: checkpoints and journal files at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_small(folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunStore:
    """A copy of its own."""
    return RunStore.at(shutil.copytree(finished, tmp_path / "run"))[0]


def test_checkpoints_are_found_by_their_steps(run: RunStore) -> None:
    folder = run.folder.path("")
    assert RunStore.at(folder / "checkpoints" / "step-000008") == (run, 8)
    with pytest.raises(CheckpointError, match=r"there is no checkpoint at .*/step-8"):
        RunStore.at(folder / "checkpoints" / "step-8")
    assert run.steps() == [4, 8, 12]
    assert run.checkpoint(8).step == 8
    weights = folder / "checkpoints" / "step-000012" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="step-000012 is cut short"):
        run.checkpoint(12)
    for until, step in ((None, 8), (11, 8), (7, 4)):
        newest = run.newest_sound(until)
        assert newest is not None
        assert newest.step == step
    assert run.newest_sound(3) is None


def test_run_and_checkpoints_say_the_same_of_their_origin(run: RunStore) -> None:
    said = run.card()
    assert said is not None
    assert said == RunCard.read(run.checkpoint(4).meta, "")
    assert RunCard.read(json.loads(json.dumps(said.as_json())), "") == said
    run.folder.delete("provenance.json")
    assert run.card() == said


def test_going_back_drops_all_after_the_step(run: RunStore) -> None:
    run.rewind(6)
    assert JournalReader(run.folder).steps() == range(1, 7)
    assert [line["step"] for line in read_metrics(run.folder)] == [1, 2, 3, 4, 5, 6]
    assert run.steps() == [4]
    run.rewind(0)
    assert JournalReader(run.folder).steps() == range(0)
    assert read_metrics(run.folder) == []


def _missing(name: str) -> Callable[[Path], None]:
    return lambda journal: next(journal.glob(name)).unlink()


def _cut(journal: Path) -> None:
    first = next(journal.glob("steps-00000001-*"))
    first.write_bytes(first.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            _missing("steps-00000005-*"),
            r"lacks steps 5 to 8; use the checkpoint before it: --resume .*/step-000004, or",
        ),
        (_missing("steps-00000009-*"), r"lacks steps 9 to 12; use the checkpoint before it: --resume .*/step-000008"),
        (_cut, r"damaged or cut short.*; no checkpoint lies before it, or delete .*/journal"),
    ],
    ids=["hole", "end", "damaged"],
)
def test_a_harmed_journal_is_told_before_anything_is_dropped(
    harm: Callable[[Path], None], message: str, run: RunStore
) -> None:
    harm(run.folder.path("journal"))
    before = contents(run.folder.path(""))
    with pytest.raises(JournalError, match=message):
        run.rewind(12)
    assert contents(run.folder.path("")) == before


def test_a_journal_that_was_deleted_as_a_whole_is_no_obstacle(run: RunStore) -> None:
    run.folder.delete("journal")
    run.rewind(8)
    assert [line["step"] for line in read_metrics(run.folder)] == list(range(1, 9))
    assert Storage.at(run.folder.uri) == run.folder


def test_a_private_run_stays_private(tmp_path: Path) -> None:
    """All that it writes has the permissions that the user's umask leaves."""
    former = os.umask(0o077)
    try:
        train_small(tmp_path / "run")
    finally:
        os.umask(former)
    places = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    assert len(places) > 12
    assert [place for place in places if place.stat().st_mode & 0o077] == []


def test_a_run_that_somebody_writes_to_is_not_gone_on_with(tmp_path: Path) -> None:
    train_small(tmp_path / "run", seconds=0.0)
    with written_alone(Storage.at(tmp_path / "run")):
        before = contents(tmp_path / "run")
        with pytest.raises(UserError, match="writes to it since"):
            resume_small(tmp_path / "run")
        assert contents(tmp_path / "run") == before
    assert resume_small(tmp_path / "run").steps > 1
