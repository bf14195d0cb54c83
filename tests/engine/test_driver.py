"""The driver's records: what the journal and the metrics say can be checked, and is enough to train again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import ES, JOINT, STEPS, digits, small_config, small_task, train_small

from glr_dist.core.parameters import flat_parameters
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.evaluator import Evaluator
from glr_dist.engine.optimization import build_optimizer, build_schedule
from glr_dist.engine.reconstructor import Reconstructor
from glr_dist.engine.task import Task
from glr_dist.store.checkpoint import checkpoint_steps, load_checkpoint
from glr_dist.store.journal import JournalReader
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

RUNS: dict[str, dict[str, Any]] = {
    "layerwise": {},
    "joint-zero-one": JOINT
    | {"loss": "zero-one", "noise.source": "generator", "estimator.copies": 10},  # 2, 2, 1 pairs
    "es": ES,
}


@pytest.fixture(scope="module", params=RUNS)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, str]:
    """A run with a checkpoint after every step."""
    folder = tmp_path_factory.mktemp("recorded") / "run"
    train_small(folder, RUNS[request.param] | {"checkpoint_every": 1})
    return Storage.at(folder), request.param


def parameters_before(step: int, task: Task, run: Storage) -> np.ndarray:
    if step == 0:
        return flat_parameters(task.model).numpy()
    weights = load_checkpoint(run.folder(f"checkpoints/step-{step:06d}")).weights
    return torch.cat([tensor.flatten() for tensor in weights.values()]).numpy()


def test_evaluating_journalled_units_again_gives_the_same_losses(recorded: tuple[Storage, str]) -> None:
    run, name = recorded
    task = small_task(RUNS[name])
    evaluator = Evaluator(task, task.make_table())
    journal = JournalReader(run)
    assert journal.steps() == range(1, STEPS + 1)
    for step in (0, 1, STEPS - 1):
        units, rows = task.plan.step(step).units, journal.read(step + 1)
        again = evaluator.losses(parameters_before(step, task, run), units)
        assert len(rows) == len(units) == len(again)
        for unit, row, losses in zip(units, rows, again, strict=True):
            assert (row.site, row.unit, row.rows) == (unit.site, unit.number, 8)
            assert row.seed == unit.seed(task.plan.seed).generate_state(1, np.uint64)[0]
            assert row.losses.tobytes() == losses.tobytes()


def test_the_order_and_company_of_units_change_nothing(recorded: tuple[Storage, str]) -> None:
    run, name = recorded
    task = small_task(RUNS[name])
    evaluator = Evaluator(task, task.make_table())
    parameters = parameters_before(3, task, run)
    units = task.plan.step(3).units
    together = evaluator.losses(parameters, units)
    alone = [evaluator.losses(parameters, [unit])[0] for unit in reversed(units)][::-1]
    assert [losses.tobytes() for losses in together] == [losses.tobytes() for losses in alone]


def test_initial_parameters_and_journal_give_every_checkpoint(recorded: tuple[Storage, str]) -> None:
    """Without evaluating anything: the losses come from the journal, the noise from its seeds."""
    run, name = recorded
    config, task = small_config(RUNS[name]), small_task(RUNS[name])
    model = task.model
    parameters = list(model.parameters())
    reconstructor = Reconstructor(task, task.make_table())
    optimizer = build_optimizer(config.optimizer, parameters)
    schedule = build_schedule(config.schedule, optimizer, config.optimizer.lr, config.steps)
    journal = JournalReader(run)
    for step in range(1, STEPS + 1):
        rows = journal.read(step)
        flat = flat_parameters(model).numpy()
        parts = []
        for block in task.plan.step(step - 1).blocks:
            losses = [rows[position].losses for position in block.positions]
            parts.append(reconstructor.gradient(flat, block, losses).values)
        total = (parts[0] + parts[1]) + (parts[2] + parts[3])  # along the tree
        gradient = torch.from_numpy(total / np.float32(32))
        for p, part in zip(parameters, gradient.split([p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p).clone()
        optimizer.step()
        schedule.step()
        weights = load_checkpoint(run.folder(f"checkpoints/step-{step:06d}")).weights
        assert all(torch.equal(weights[key], tensor) for key, tensor in model.state_dict().items()), step


def test_metrics_say_what_happened(recorded: tuple[Storage, str]) -> None:
    run, name = recorded
    lines, journal = read_metrics(run), JournalReader(run)
    passes = {"layerwise": 2 * 8 * 32, "joint-zero-one": 10 * 32, "es": 8 * 32}[name]  # a step; 2 sites
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line in lines:
        losses = np.concatenate([row.losses.ravel() for row in journal.read(line["step"])])
        assert losses.size == passes
        assert line["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
        assert line["noisy_forwards"] == passes * line["step"]
        assert line["lr"] == pytest.approx(3e-3 * (1 - (line["step"] - 1) / STEPS), abs=1e-9)  # linear; of this step
        assert ("validation_accuracy" in line) == (line["step"] in (4, 8, STEPS))
    assert checkpoint_steps(run) == list(range(1, STEPS + 1))
    model = small_task(RUNS[name]).model
    model.load_state_dict(load_checkpoint(run).weights)
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in digits().batches("validation", 50))
    assert lines[-1]["validation_accuracy"] == right / digits().count("validation")


def test_journal_off_writes_none(tmp_path: Path) -> None:
    assert not train_small(tmp_path / "run", {"journal": "off", "steps": 1}).journal
    assert not list((tmp_path / "run").glob("journal/*"))


def test_a_journal_that_would_be_large_is_left_off_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    keys = {"steps": 10**6}  # 512 losses of 4 bytes a step: 2.1 GB
    assert not train_small(tmp_path / "auto", keys, say=said.append, seconds=0.0).journal
    assert len(said) == 1
    assert said[0].startswith("journal off: it would take up to 2.1 GB; --journal on")
    assert train_small(tmp_path / "on", keys | {"journal": "on"}, seconds=0.0).journal


def test_a_step_is_the_mean_over_the_batch_whatever_the_blocks() -> None:
    """Backpropagation's gradient with blocks of 8 rows and in one piece: equal but for rounding."""
    keys: dict[str, Any] = {"method": "bp", "model.activation": "tanh"}
    task = small_task(keys)
    flat = flat_parameters(task.model).numpy()
    result = assemble_crew(task, EngineConfig(workers=0)).gradient(flat, 3)
    schedule = task.plan.schedule
    rows = [digits().rows("train", block.shard, schedule.row_numbers(block)) for block in schedule.blocks(3)]
    x, labels = torch.cat([x for x, _ in rows]), torch.cat([y for _, y in rows])
    assert len(x) == 32
    loss = torch.nn.functional.cross_entropy(task.model(x), labels)
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None])
    torch.testing.assert_close(torch.from_numpy(result.gradient), expected, rtol=1e-4, atol=1e-6)
    assert not result.losses
