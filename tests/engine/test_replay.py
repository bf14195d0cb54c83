"""A journal gives every step's parameters again; what was changed in it, or claimed without being true, is found."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_runs import CONV, ES, JOINT, STEPS, digits, own_model, resume_small, small_task, train_small

from glr_dist.cli import main
from glr_dist.core import losses as core_losses
from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine.assembly import crew_here
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.crew import Crew
from glr_dist.engine.evaluator import Evaluator
from glr_dist.engine.plan import Unit
from glr_dist.engine.replay import replay
from glr_dist.engine.task import Task
from glr_dist.engine.verify import verify
from glr_dist.errors import UserError
from glr_dist.store.checkpoint import load_checkpoint, params_sha256
from glr_dist.store.journal import JournalReader
from glr_dist.store.journal_file import FOLDER, JournalRow, encode, list_blocks, write_block
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

MOMENTUM = {"optimizer.name": "sgd", "optimizer.options": {"momentum": 0.9}, "schedule.name": "one-cycle"}
RUNS: dict[str, dict[str, Any]] = {
    "layerwise": {},
    "joint-zero-one-generator": JOINT | {"loss": "zero-one", "noise.source": "generator"},
    "conv-momentum-one-cycle": CONV | MOMENTUM,
    "es": ES,
    "augmented": {"augment.attack": "fgsm", "augment.jitter": 0.1},
    "augmented-joint": JOINT | {"augment.attack": "fgsm"},
}
UNITS = STEPS * 16  # of the layerwise run: 4 blocks, 2 sites, 2 pieces


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a named data set, with checkpoints at 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("run")
    train_small(folder / "run", {"data.cache": str(folder / "cache")}, data=None)
    return folder / "run"


def tampered(run: Path, folder: Path, change: Callable[[JournalRow], JournalRow]) -> Path:
    """A copy of the run whose journal was rewritten with the hash it should have."""
    storage = Storage.at(shutil.copytree(run, folder / "tampered"))
    journal = JournalReader(storage)
    rows = [change(row) for step in journal.steps() for row in journal.read(step)]
    for block in list_blocks(storage):
        storage.delete(f"{FOLDER}/{block.name}")
    write_block(storage, [encode(rows, bits=False)])
    return folder / "tampered"


def one_loss_changed(row: JournalRow) -> JournalRow:
    if (row.step, row.site, row.unit) != (6, 1, 3):
        return row
    losses = row.losses.copy()
    losses[2, 5] += 0.25
    return changed(row, losses=losses)


def command(name: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON object and standard error."""
    result = CliRunner().invoke(main, [name, *arguments, "--json"])
    return result.exit_code, json.loads(result.stdout.splitlines()[-1]), result.stderr


@pytest.mark.parametrize("name", RUNS)
def test_every_step_is_rebuilt_without_evaluating_a_loss_and_an_honest_run_verifies(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train_small(tmp_path / "run", RUNS[name] | {"checkpoint_every": 1})

    def never(*arguments: Any) -> Any:
        raise AssertionError("a loss was evaluated")

    with monkeypatch.context() as patch:
        for loss in list(core_losses.LOSSES):
            patch.setitem(core_losses.LOSSES, loss, never)
        result = replay(tmp_path / "run", data=digits())
    assert result.compared == tuple(range(1, STEPS + 1))
    assert (result.step, result.equal, result.first_difference) == (STEPS, True, None)
    assert result.params_sha256 == trained.params_sha256
    assert verify(tmp_path / "run", 0.5, data=digits()).differences == ()


def test_a_resumed_run_is_rebuilt_too(tmp_path: Path) -> None:
    for step in (1, 2):
        begin = train_small if step == 1 else resume_small
        assert begin(tmp_path / "run", seconds=0.0).steps == step
    trained = resume_small(tmp_path / "run")
    assert replay(tmp_path / "run", data=digits()).params_sha256 == trained.params_sha256


def test_any_step_can_be_asked_for(run: Path) -> None:
    result = replay(run, 8)
    weights = load_checkpoint(run / "checkpoints" / "step-000008").weights
    assert result.compared == (4, 8)
    assert result.equal is True
    assert all(torch.equal(tensor, weights[name]) for name, tensor in result.model.state_dict().items())
    assert result.training_seconds == read_metrics(Storage.at(run))[7]["seconds"]
    start = replay(run, 0)
    assert start.params_sha256 == params_sha256(small_task().model.state_dict())
    assert (start.compared, start.equal) == ((), None)
    with pytest.raises(UserError, match=r"--to 13: the journal of .* holds steps 1 to 12"):
        replay(run, 13)


def test_a_damaged_checkpoint_is_passed_over(run: Path, tmp_path: Path) -> None:
    folder = tampered(run, tmp_path, lambda row: row)
    weights = folder / "checkpoints" / "step-000008" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    notes: list[str] = []
    result = replay(folder, say=notes.append)
    assert (result.compared, result.equal) == ((4, 12), True)
    assert len(notes) == 1
    assert "step-000008 is cut short" in notes[0]


def test_a_changed_loss_shows_in_the_next_checkpoint_and_in_an_audit(run: Path, tmp_path: Path) -> None:
    folder = tampered(run, tmp_path, one_loss_changed)
    code, result, errors = command("replay", str(folder))
    assert (code, result["equal"], result["first_difference"]) == (1, False, 8)
    assert "differ from those in the checkpoint of step 8" in errors.splitlines()[-1]
    code, result, errors = command("replay", str(folder), "--to", "5")  # before the change
    assert (code, result["equal"], result["compared"]) == (0, True, [4])
    code, result, errors = command("verify", str(folder), "--share", "1")
    first = result["differences"][0]
    assert (code, result["checked"]) == (1, UNITS)
    assert (first["step"], first["site"], first["unit"]) == (6, 1, 3)
    assert first["largest"] == pytest.approx(0.25, abs=1e-6)
    assert "step 6, site 1, unit 3: losses differ by up to 0.25" in errors


def test_an_honest_run_verifies(run: Path) -> None:
    code, result, _ = command("replay", str(run))
    assert (code, result["equal"], result["compared"]) == (0, True, [4, 8, 12])
    code, result, _ = command("verify", str(run), "--share", "1")
    assert (code, result["checked"], result["units"], result["differences"]) == (0, UNITS, UNITS, [])


class Liar(Evaluator):
    """Honest but for one unit."""

    def losses(self, theta: np.ndarray, units: Sequence[Unit], made: Any = None) -> list[np.ndarray]:
        lie = np.float32(0.5)
        found = super().losses(theta, units, made)
        places = [(unit.step, unit.site, unit.number) for unit in units]
        return [losses - lie if place == (6, 0, 5) else losses for place, losses in zip(places, found, strict=True)]


def lying_crew(task: Task, engine: EngineConfig) -> Crew:
    table = task.make_table()
    return crew_here(task, table, evaluator=Liar(task, table))


def test_a_worker_that_lied_once_is_found(tmp_path: Path) -> None:
    """The parameters follow from the lie, so that no other unit differs, and the replay is what was trained."""
    train_small(tmp_path / "run", crew=lying_crew)
    assert replay(tmp_path / "run", data=digits()).equal is True
    (difference,) = verify(tmp_path / "run", 1.0, data=digits()).differences
    assert (difference.step, difference.site, difference.unit) == (7, 0, 5)
    assert difference.largest == pytest.approx(0.5, abs=1e-6)
    found = [bool(verify(tmp_path / "run", 0.5, seed=seed, data=digits()).differences) for seed in range(6)]
    assert set(found) == {True, False}  # half of the audits of half of the units


def test_the_share_and_its_seed_choose_the_units(run: Path) -> None:
    one = verify(run, 0.05)
    assert one.checked == 10  # 9.6, rounded up
    assert verify(run, 1e-9).checked == 1
    assert verify(run, 0.05).seed != one.seed
    with pytest.raises(UserError, match=r"--share 1.5: must be above 0, at most 1"):
        verify(run, 1.5)


def test_another_plan_than_the_journals_is_refused(run: Path, tmp_path: Path) -> None:
    def reseeded(row: JournalRow) -> JournalRow:
        return changed(row, seed=row.seed ^ 1) if (row.step, row.unit) == (3, 2) else row

    with pytest.raises(UserError, match=r"step 3, site 0, unit 2 has seed .* the run's plan says"):
        replay(tampered(run, tmp_path, reseeded))


def test_a_loss_that_no_evaluator_sends_is_refused(run: Path, tmp_path: Path) -> None:
    def lost(row: JournalRow) -> JournalRow:
        return changed(row, losses=row.losses * np.float32("nan")) if (row.step, row.unit) == (3, 2) else row

    with pytest.raises(UserError, match="step 3, site 0, unit 2 has a loss that is not finite"):
        verify(tampered(run, tmp_path, lost), 1.0)


def own_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (logits.argmax(-1) != labels).float() * 2


def test_a_run_of_ones_own_model_and_loss_needs_them(tmp_path: Path) -> None:
    folder, data = tmp_path / "run", digits()
    train_small(folder, model=own_model(), loss=own_loss)
    with pytest.raises(UserError, match=r"replay\(run, model=...\)"):
        replay(folder, data=data)
    model = own_model()
    result = replay(folder, model=model, data=data)
    assert result.equal is True
    assert result.model is model
    assert replay(folder, model=own_model(seed=1), data=data).first_difference == 4
    with pytest.raises(UserError, match=r"verify\(loss=...\)"):
        verify(folder, model=own_model(), data=data)
    assert verify(folder, model=own_model(), data=data, loss=own_loss).differences == ()


@pytest.mark.parametrize("lost", ["checkpoints", "provenance.json"])
def test_a_run_of_ones_own_is_recognised_also_before_its_first_checkpoint(lost: str, tmp_path: Path) -> None:
    """Its config describes a model and a loss that it was not trained with."""
    folder = tmp_path / "run"
    train_small(folder, model=own_model(), loss=own_loss, seconds=0.0)
    Storage.at(folder).delete(lost)
    for audit in (replay, verify):
        with pytest.raises(UserError, match=r"its model was built by Python code; .*\(run, model=...\)"):
            audit(folder, data=digits())
    with pytest.raises(UserError, match=r"its loss was given by Python code; .*verify\(loss=...\)"):
        verify(folder, model=own_model(), data=digits())
    assert verify(folder, model=own_model(), data=digits(), loss=own_loss).differences == ()


def test_what_cannot_be_replayed_says_why(run: Path, tmp_path: Path) -> None:
    train_small(tmp_path / "bp", {"method": "bp", "model.activation": "relu", "steps": 2})
    with pytest.raises(UserError, match="method = 'bp' observes no losses"):
        replay(tmp_path / "bp", data=digits())
    train_small(tmp_path / "off", {"journal": "off", "steps": 2})
    with pytest.raises(UserError, match="has no journal: it was trained with --journal off"):
        replay(tmp_path / "off", data=digits())
    with pytest.raises(UserError, match="is not a run: there is no such folder"):
        replay(tmp_path / "nothing")
    rng = np.random.default_rng(0)
    other = ArrayDataset((rng.random((1400, 1, 8, 8)), np.arange(1400) % 10), shards=8)
    with pytest.raises(UserError, match="was trained on data with fingerprint"):
        replay(run, data=other)


def test_a_runs_code_is_not_imported_unasked(run: Path, tmp_path: Path) -> None:
    folder = tampered(run, tmp_path, lambda row: row)
    config = folder / "config.toml"
    text = config.read_text().replace('kind = "mlp"', 'kind = "factory"')
    text = text.replace('std = 0.0\nfactory = ""', 'std = 0.0\nfactory = "evil:f"')  # not that of the data
    config.write_text(re.sub(r"hidden = \[[^]]*\]", "hidden = [50]", text))  # a factory reads no other
    record = folder / "provenance.json"
    text = record.read_text().replace('"model.kind": "mlp"', '"model.kind": "factory"')
    text = re.sub(r'"model.hidden": \[[^]]*\]', '"model.hidden": [50]', text)
    record.write_text(text.replace('"model.factory": ""', '"model.factory": "evil:f"'))
    with pytest.raises(UserError, match=r"'evil:f', code that would be imported and run"):
        replay(folder)
    with pytest.raises(UserError, match=r"model.factory .*'evil:f': No module named 'evil'"):
        replay(folder, trust_model=True)
