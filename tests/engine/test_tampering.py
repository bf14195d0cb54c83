"""An audit names whatever was changed of a run after the fact, also where hashes were made anew for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import call
from small_runs import STEPS, resume_small, train_small

from glr_dist.engine.replay import replay
from glr_dist.engine.verify import verify
from glr_dist.errors import UserError
from glr_dist.store.checkpoint import load_checkpoint, save_checkpoint
from glr_dist.store.journal import JournalReader
from glr_dist.store.journal_file import FOLDER, JournalRow, encode, list_blocks, write_block
from glr_dist.store.storage import Storage

KEY = "a key that few know, 32 bytes long"
LAST = f"checkpoints/step-{STEPS:06d}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with a signed journal and checkpoints at 4, 8 and 12; its data and the key lie beside it."""
    folder = tmp_path_factory.mktemp("tampering")
    (folder / "key").write_text(KEY)
    keys = {"data.cache": str(folder / "cache"), "data.name": "digits"}
    train_small(folder / "run", keys, data=None, journal_key=folder / "key")
    return folder / "run"


def journal(run: Path, change: Callable[[JournalRow], JournalRow | None]) -> None:
    """Rewrite the journal, with the hash that it should have; without the key nobody can sign it."""
    storage = Storage.at(run)
    reader = JournalReader(storage)
    rows = [change(row) for step in reader.steps() for row in reader.read(step)]
    for block in list_blocks(storage):
        storage.delete(f"{FOLDER}/{block.name}")
    write_block(storage, [encode([row for row in rows if row is not None], bits=False)])


def checkpoint(run: Path, step: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Write a checkpoint anew, sound in itself, after a change of its weights, training state and meta."""
    place = Storage.at(run).folder(f"checkpoints/step-{step:06d}")
    old = load_checkpoint(place)
    parts: dict[str, Any] = {"weights": old.weights, "training": old.training, "meta": old.meta}
    change(parts)
    own = ("format", "written", "files", "weights", "params_sha256", "sha256")
    meta = {key: value for key, value in parts["meta"].items() if key not in own}
    save_checkpoint(Storage.at(run), step=step, weights=parts["weights"], training=parts["training"], meta=meta)


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text, text
    file.write_text(text.replace(before, after, 1))


def a_loss(run: Path) -> None:
    def change(row: JournalRow) -> JournalRow:
        losses = row.losses.copy()
        losses[0, 0] += 0.5
        return changed(row, losses=losses) if (row.step, row.unit) == (9, 2) else row

    journal(run, change)


def a_seed(run: Path) -> None:
    journal(run, lambda row: changed(row, seed=row.seed ^ 1) if row.step == 5 else row)


def the_journals_end(run: Path) -> None:
    journal(run, lambda row: row if row.step <= STEPS - 2 else None)


def the_last_checkpoint(run: Path) -> None:
    def change(parts: dict[str, Any]) -> None:
        name, tensor = next(iter(parts["weights"].items()))
        parts["weights"][name] = tensor + 1e-3

    checkpoint(run, STEPS, change)


def the_optimizer(run: Path) -> None:
    def change(parts: dict[str, Any]) -> None:
        for state in parts["training"]["optimizer"]["state"].values():
            state["exp_avg"] = torch.zeros_like(state["exp_avg"])

    checkpoint(run, 8, change)


def a_checkpoints_seed(run: Path) -> None:
    checkpoint(run, 8, lambda parts: parts["meta"].update(seed=7))


def a_checkpoint_missing_a_file(run: Path) -> None:
    (run / LAST / "training.pt").unlink()


def a_metric(run: Path) -> None:
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines()
    said = json.loads(lines[7])
    assert said["validation_accuracy"] is not None
    lines[7] = json.dumps(said | {"validation_accuracy": 0.999})
    file.write_text("\n".join(lines) + "\n")


def a_missing_metric(run: Path) -> None:
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3] + lines[4:]))


def the_noise(run: Path) -> None:
    edit(run / "config.toml", "scale = 1.0", "scale = 2.0")


def where_it_comes_from(run: Path) -> None:
    edit(run / "provenance.json", '"fold": true', '"fold": false')


def a_pixel(run: Path) -> None:
    """A shard written anew, with the footer that it had."""
    data(run, lambda images, labels: images.__setitem__((0, 0, 0, 0), images[0, 0, 0, 0] ^ 1))


def a_label(run: Path) -> None:
    data(run, lambda images, labels: labels.__setitem__(0, (labels[0] + 1) % 10))


def data(run: Path, change: Callable[[np.ndarray, np.ndarray], None]) -> None:
    from glr_dist.data.shard_file import read_file, read_footer, write_file

    (cached,) = (run.parent / "cache").iterdir()
    file = cached / "train-00001-of-00008.parquet"
    header, _ = read_footer(file)
    images, labels = (array.copy() for array in read_file(file, header.shape))
    change(images, labels)
    write_file(file, images, labels, header)


TAMPERINGS: dict[Callable[[Path], None], str] = {
    a_loss: "step 9, site 0, unit 2: losses differ by up to 0.5",
    a_seed: "step 5, site 0, unit 0 has seed",
    the_journals_end: f"checkpoint of step {STEPS} lies beyond the journal, which ends at step {STEPS - 2}",
    the_last_checkpoint: f"checkpoint of step {STEPS} has other parameters than the replay",
    the_optimizer: "checkpoint of step 8 has another state of the optimizer",
    a_checkpoints_seed: "checkpoint of step 8: was made with seed = 7",
    a_checkpoint_missing_a_file: "training.pt is missing",
    a_metric: "metrics.jsonl, step 8: validation_accuracy is 0.999",
    a_missing_metric: "metrics.jsonl says nothing of step 4",
    the_noise: "config.toml was changed: noise.scale is 2.0, the run was begun with 1.0",
    where_it_comes_from: "provenance.json: fold is False",
    a_pixel: "other content than its fingerprint says",
    a_label: "other content than its fingerprint says",
}


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_each_tampering_is_named(tamper: Callable[[Path], None], run: Path, tmp_path: Path) -> None:
    shutil.copytree(run.parent, tmp_path / "all")
    folder = tmp_path / "all" / "run"
    edit(folder / "config.toml", str(run.parent / "cache"), str(tmp_path / "all" / "cache"))
    tamper(folder)
    result = call("verify", str(folder), "--share", "1")
    assert result.exit_code in (1, 2), result.output
    assert TAMPERINGS[tamper] in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_an_untouched_run_passes_and_says_what_was_covered(run: Path) -> None:
    result = call("verify", str(run), "--share", "1", "--journal-key", str(run.parent / "key"))
    assert result.exit_code == 0, result.output
    for said in (f"1 to {STEPS} of {STEPS}", "4, 8, 12", "good"):
        assert said in result.stdout


def test_a_replay_of_a_journal_cut_short_fails_but_for_the_steps_asked_for(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    the_journals_end(folder)
    assert replay(folder).uncovered == STEPS
    assert replay(folder, 8).uncovered is None
    result = call("replay", str(folder))
    assert result.exit_code == 1
    assert f"checkpoint of step {STEPS} was not compared" in result.stderr


def test_with_the_key_a_journal_whose_hashes_were_made_anew_is_refused(run: Path, tmp_path: Path) -> None:
    folder, key = Path(shutil.copytree(run, tmp_path / "run")), run.parent / "key"
    journal(folder, lambda row: row)
    assert verify(folder, 1.0).findings == ()  # hashes alone can't tell
    for audit in (verify, replay):
        with pytest.raises(UserError, match="is not signed with this --journal-key"):
            audit(folder, journal_key=key)
    wrong = tmp_path / "wrong"
    wrong.write_text(KEY[::-1])
    with pytest.raises(UserError, match="is not signed with this --journal-key"):
        verify(run, journal_key=wrong)


def test_a_signed_run_goes_on_signed(run: Path, tmp_path: Path) -> None:
    folder, key = tmp_path / "run", run.parent / "key"
    train_small(folder, journal_key=key, seconds=0.0)
    with pytest.raises(UserError, match="its journal is signed; give the key it was begun with"):
        resume_small(folder)
    assert resume_small(folder, journal_key=key).steps == STEPS
    from small_runs import digits

    assert verify(folder, data=digits(), journal_key=key).signed
    train_small(tmp_path / "plain", seconds=0.0)
    with pytest.raises(UserError, match="is not signed: it was begun without; leave it out"):
        resume_small(tmp_path / "plain", journal_key=key)
    (tmp_path / "short").write_text("x")
    with pytest.raises(UserError, match="holds 1 bytes; give at least 16"):
        train_small(tmp_path / "none", journal_key=tmp_path / "short")
    assert not (tmp_path / "none").exists()
