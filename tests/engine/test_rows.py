"""Adversarial rows are where they should be, what FGSM by hand makes them, and the same whoever makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import Signs, digits, outcome, resume_small, small_config, small_task, train_small
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from glr_dist.core.parameters import flat_parameters
from glr_dist.data.arrays import ArrayDataset
from glr_dist.data.batches import Block
from glr_dist.engine.checks import make_task
from glr_dist.engine.replay import replay
from glr_dist.engine.rows import RowSupply, augmented_rows
from glr_dist.engine.task import Task
from glr_dist.engine.verify import verify
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP
from glr_dist.runs.network import open_network
from glr_dist.store.checkpoint import load_checkpoint

FGSM = {"augment.attack": "fgsm", "augment.epsilon": 0.1}
BP = {"method": "bp", "model.activation": "relu"}


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of back-propagation, with another network than those that are trained here."""
    folder = tmp_path_factory.mktemp("surrogate") / "run"
    train_small(folder, BP | {"model.hidden": [20], "steps": 60})
    return folder


def by_hand(parameters: np.ndarray, x: np.ndarray, labels: np.ndarray, epsilon: float) -> np.ndarray:
    """FGSM in float64 for 64-12-10 Heaviside units with the derivative 1/2 in [-1, 1]: [R, 64]."""
    sizes = [12 * 64, 12, 10 * 12, 10]
    w1, b1, w2, b2 = np.split(parameters.astype(np.float64), np.cumsum(sizes)[:-1])
    z = x @ w1.reshape(12, 64).T + b1
    logits = (z >= 0) @ w2.reshape(10, 12).T + b2
    p = np.exp(logits - logits.max(1, keepdims=True))
    delta = p / p.sum(1, keepdims=True) - np.eye(10)[labels]
    gradient = (delta @ w2.reshape(10, 12) * (np.abs(z) <= 1) * 0.5) @ w1.reshape(12, 64)
    attacked: np.ndarray = np.clip(x + epsilon * np.sign(gradient), 0.0, 1.0)
    return attacked


def made(task: Task, block: Block) -> np.ndarray:
    return augmented_rows(task, block, task.model)[0].flatten(1).numpy()


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.3, 2), (0.5, 4), (1.0, 8)])
def test_the_first_rows_of_a_block_are_those_of_fgsm_by_hand(share: float, count: int) -> None:
    task = small_task(FGSM | {"augment.share": share})
    block = task.plan.schedule.blocks(3)[1]
    clean, labels = task.rows(block)
    x = clean.flatten(1).numpy()
    expected = by_hand(flat_parameters(task.model).numpy(), x[:count], labels[:count].numpy(), 0.1)
    found = made(task, block)
    np.testing.assert_allclose(found[:count], expected, atol=1e-6)
    np.testing.assert_array_equal(found[count:], x[count:])
    assert torch.equal(augmented_rows(task, block, task.model)[1], labels)


def test_rows_from_a_fixed_surrogate_are_those_of_its_gradient(surrogate: Path) -> None:
    task = small_task(FGSM | {"augment.surrogate": str(surrogate)})
    block = task.plan.schedule.blocks(0)[0]
    clean, labels = task.rows(block)
    network = MLP(64, [20], 10, "relu")
    network.load_state_dict(load_checkpoint(surrogate).weights)
    leaf = clean[:4].clone().requires_grad_()
    cross_entropy(network(leaf), labels[:4]).backward()
    assert leaf.grad is not None
    expected = (clean[:4] + 0.1 * leaf.grad.sign()).clamp(0, 1)
    x, _ = RowSupply(task).of(np.empty(0, np.float32), block)  # the parameters in training make no difference
    torch.testing.assert_close(x[:4], expected)
    assert torch.equal(x[4:], clean[4:])


def test_jitter_is_uniform_on_the_other_rows_alone() -> None:
    task = small_task(FGSM | {"augment.jitter": 0.25, "units.rows": 32})
    assert np.array_equal(
        made(task, task.plan.schedule.blocks(0)[0])[:16],
        made(small_task(FGSM | {"units.rows": 32}), task.plan.schedule.blocks(0)[0])[:16],
    )
    inner = []
    for step in range(40):
        (block,) = task.plan.schedule.blocks(step)
        before = task.rows(block)[0].flatten(1).numpy()[16:]
        after = made(task, block)[16:]
        assert after.min() >= 0
        assert after.max() <= 1
        noise = (after - before)[(before >= 0.25) & (before <= 0.75)]  # where nothing is clamped
        assert np.abs(noise).max() <= 0.25 + 1e-6
        inner.append(noise)
    noise = np.concatenate(inner)
    shares = np.histogram(noise, bins=10, range=(-0.25, 0.25))[0] / len(noise)
    assert len(noise) > 5000
    np.testing.assert_allclose(shares, 0.1, atol=6 * np.sqrt(0.09 / len(noise)))


def test_jitter_alone_changes_all_rows() -> None:
    task = small_task({"augment.jitter": 0.1})
    block = task.plan.schedule.blocks(0)[0]
    x = task.rows(block)[0].flatten(1).numpy()
    assert (made(task, block) != x).any(1).all()


@pytest.mark.parametrize(
    "keys",
    [
        FGSM,
        FGSM | {"augment.jitter": 0.2},
        {"augment.attack": "pgd", "augment.steps": 2},
        {"augment.attack": "pgd", "augment.steps": 2, "augment.part": 0.5},
    ],
)
def test_rows_are_a_function_of_block_and_parameters_whatever_was_asked_before(keys: dict[str, Any]) -> None:
    task = small_task(keys)
    one, other = task.plan.schedule.blocks(0)[:2]
    parameters = flat_parameters(task.model).numpy()
    others = parameters[::-1].copy()
    fresh = RowSupply(task).of(parameters, one)[0]
    rows = RowSupply(task)
    asked: list[tuple[np.ndarray, Block]] = [(parameters, other), (others, one), (parameters, one), (parameters, one)]
    found = [rows.of(values, block)[0] for values, block in asked]
    found[2].zero_()  # a network may work in place on what it is given
    assert torch.equal(found[3], fresh)
    assert not torch.equal(found[1], fresh)
    assert torch.equal(rows.of(others, other, (fresh.numpy(), np.arange(8)))[0], fresh)


def test_pgd_goes_further_than_fgsm_and_stays_in_the_ball(surrogate: Path) -> None:
    losses = {}
    for attack in ("fgsm", "pgd"):
        keys = {"augment.attack": attack, "augment.share": 1.0, "augment.surrogate": str(surrogate)}
        task = small_task(keys | {"units.rows": 32})
        assert task.surrogate is not None
        (block,) = task.plan.schedule.blocks(0)
        clean, labels = task.rows(block)
        x = augmented_rows(task, block, task.surrogate.model)[0]
        assert float((x - clean).abs().max()) <= 0.1 + 1e-6
        losses[attack] = cross_entropy(task.surrogate.model(x), labels).item()
    assert losses["pgd"] > losses["fgsm"]


def test_a_block_that_is_saturated_stays_as_it_is() -> None:
    task = small_task(FGSM)
    block = task.plan.schedule.blocks(0)[0]
    with torch.no_grad():
        for p in task.model.parameters():
            p.fill_(100.0)  # every pre-activation is far from 0
    x, _ = RowSupply(task).of(flat_parameters(task.model).numpy(), block)
    assert torch.equal(x, task.rows(block)[0])


def test_training_on_them_makes_a_network_more_robust(surrogate: Path, tmp_path: Path) -> None:
    """On the test set: the surrogate's own FGSM samples, which neither run was trained on."""
    data, network = digits(), open_network(surrogate).model
    x, labels = next(data.batches("test", 397))
    leaf = x.clone().requires_grad_()
    cross_entropy(network(leaf), labels).backward()
    assert leaf.grad is not None
    attacked = (x + 0.2 * leaf.grad.sign()).clamp(0, 1)
    keys = {
        "steps": 200,
        "batch": 64,
        "units.rows": 32,
        "checkpoint_every": 0,
        "model.hidden": [40],
        "noise.scale": 0.5,
    }
    augmented = {"augment.attack": "fgsm", "augment.epsilon": 0.2, "augment.surrogate": str(surrogate)}
    found = {}
    for name, extra in (("clean", {}), ("augmented", augmented)):
        result = train_small(tmp_path / name, keys | {"optimizer.lr": 0.02} | extra)
        assert result.test_accuracy is not None
        assert result.test_accuracy > 0.8
        model = MLP(64, [40], 10, "heaviside")
        model.load_state_dict(load_checkpoint(tmp_path / name).weights)
        found[name] = accuracy(model, attacked, labels)
    assert found["augmented"] > found["clean"] + 0.2, found


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, labels: Tensor) -> float:
    return float((model(x).argmax(-1) == labels).float().mean())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"augment.attack": "fgms"}, r"augment.attack = 'fgms': unknown; did you mean 'fgsm'"),
        ({"augment.epsilon": -0.1}, r"augment.epsilon = -0.1: must be a finite number, 0 or more"),
        ({"augment.epsilon": "nan"}, r"augment.epsilon = nan: must be a finite number"),
        ({"augment.share": 1.5}, r"augment.share = 1.5: must be from 0 to 1"),
        ({"augment.jitter": -1.0}, r"augment.jitter = -1.0: must be from 0 to 1"),
        ({"augment.part": 0.0}, r"augment.part = 0.0: must be above 0, at most 1"),
        ({"augment.surrogate": "run"}, r"augment.surrogate = 'run': nothing is attacked; add --augment fgsm"),
        ({"engine.generators": 1}, r"engine.generators = 1: makes adversarial rows, and there are none; add --augment"),
        (FGSM | {"engine.generators": -1}, r"engine.generators = -1: must be at least 0"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small_config(keys)


def test_what_cannot_go_together_is_refused(surrogate: Path, tmp_path: Path) -> None:
    train_small(tmp_path / "threshold", {"steps": 1})
    with pytest.raises(UserError, match=r"threshold.*no gradient; use a --method bp run, or leave --surrogate out"):
        small_task(FGSM | {"augment.surrogate": str(tmp_path / "threshold")})
    with pytest.raises(UserError, match=r"there is no checkpoint at .*nowhere"):
        small_task(FGSM | {"augment.surrogate": str(tmp_path / "nowhere")})
    with pytest.raises(UserError, match=r"augment.share = 0.01: of blocks of 8 rows that is none"):
        small_task(FGSM | {"augment.share": 0.01})
    rng = np.random.default_rng(0)
    small = ArrayDataset((rng.random((64, 1, 4, 4), np.float32), np.arange(64) % 10), shards=1)
    with pytest.raises(UserError, match=r"has inputs of shape \[1, 8, 8\], the training data \[1, 4, 4\]"):
        small_task(FGSM | {"augment.surrogate": str(surrogate)}, data=small)
    few = ArrayDataset((rng.random((64, 1, 8, 8), np.float32), np.arange(64) % 4), shards=1)
    with pytest.raises(UserError, match=r"has a number of classes of 10, the training data 4"):
        small_task(FGSM | {"augment.surrogate": str(surrogate)}, data=few)
    named = ArrayDataset((rng.random((64, 1, 8, 8), np.float32), np.arange(64) % 10), shards=1, classes="abcdefghij")
    with pytest.raises(UserError, match=r"has classes \['0', .*\], the training data \['a', .*\]"):
        small_task(FGSM | {"augment.surrogate": str(surrogate)}, data=named)
    torch.manual_seed(0)
    train_small(tmp_path / "own", BP | {"steps": 1}, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(UserError, match=r"its network is of kind 'custom', built by code outside this package"):
        small_task(FGSM | {"augment.surrogate": str(tmp_path / "own")})


def test_a_network_that_no_derivative_helps_is_refused() -> None:
    with pytest.raises(UserError, match=r"augment.attack: the network has no gradient, not even with .*give a --surr"):
        make_task(small_config(FGSM), Signs(), digits(), None)


@pytest.mark.parametrize("keys", [FGSM, {"augment.jitter": 0.1}])
def test_inputs_that_are_no_images_are_refused(keys: dict[str, Any], tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(400, 1, 8, 8)).astype(np.float32)
    data = ArrayDataset((x, np.arange(400) % 10), shards=1)
    with pytest.raises(UserError, match=r"images: pixels from -.* to .*; they must be in \[0, 1\]"):
        train_small(tmp_path / "run", keys, data=data)


def test_a_run_is_held_to_its_surrogate(surrogate: Path, tmp_path: Path) -> None:
    """Its place may change, its content may not."""
    first, moved, other = tmp_path / "first", tmp_path / "moved", tmp_path / "other"
    train_small(first, BP | {"steps": 3})
    train_small(other, BP | {"steps": 3, "seed": 1})
    train_small(tmp_path / "whole", FGSM | {"augment.surrogate": str(first)})
    train_small(tmp_path / "run", FGSM | {"augment.surrogate": str(first)}, seconds=0.0)
    first.rename(moved)
    with pytest.raises(UserError, match=r"there is no checkpoint at .*first"):
        resume_small(tmp_path / "run")
    with pytest.raises(UserError, match=r"its surrogate had parameters .*…, .*other.* has .*; give the one it was"):
        resume_small(tmp_path / "run", overrides={"augment.surrogate": str(other)})
    with pytest.raises(UserError, match=r"rows were made on another network; give --surrogate .*first"):
        resume_small(tmp_path / "run", overrides={"augment.surrogate": ""})
    train_small(tmp_path / "itself", FGSM, seconds=0.0)
    with pytest.raises(UserError, match=r"rows were made on the network itself; leave --surrogate out"):
        resume_small(tmp_path / "itself", overrides={"augment.surrogate": str(moved)})
    with pytest.raises(UserError, match=r"--surrogate: there is no checkpoint at .*first"):
        replay(tmp_path / "run", data=digits())
    resume_small(tmp_path / "run", overrides={"augment.surrogate": str(moved)})
    assert outcome(tmp_path / "run")["weights"] == outcome(tmp_path / "whole")["weights"]
    assert replay(tmp_path / "run", data=digits()).equal is True  # it knows now where it lies
    assert verify(tmp_path / "run", 0.5, data=digits(), surrogate=str(moved)).differences == ()
    with pytest.raises(UserError, match="its surrogate had parameters"):
        replay(tmp_path / "run", data=digits(), surrogate=str(other))
