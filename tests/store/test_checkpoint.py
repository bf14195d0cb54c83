"""Checkpoints: bit for bit, every damage found and named, never half of one, never a pickle run."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pytest
import torch
from torch import nn

from glr_dist.store.checkpoint import CheckpointError, checkpoint_steps, load_checkpoint, params_sha256, save_checkpoint
from glr_dist.store.storage import Storage

FILES = ("weights.safetensors", "training.pt", "meta.json")


def trained(steps: int) -> tuple[nn.Module, dict[str, Any]]:
    """A small net and its optimizer's and schedule's state after some Adam steps."""
    torch.manual_seed(0)
    # z before a: safetensors sorts by name, a state_dict doesn't.
    net = nn.Sequential()
    net.add_module("z", nn.Linear(3, 4))
    net.add_module("a", nn.Linear(4, 2))
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(steps):
        net(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        schedule.step()
    return net, {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}


def saved(run: Storage, step: int) -> Path:
    net, training = trained(step)
    meta = {"seed": 7, "model": {"name": "mlp"}, "scale": 0.1}
    return Path(save_checkpoint(run, step=step, weights=net.state_dict(), training=training, meta=meta))


@pytest.fixture
def run(tmp_path: Path) -> Storage:
    return Storage.at(tmp_path / "run")


def test_params_sha256_is_that_of_the_bytes_in_order() -> None:
    state = {"b": torch.tensor([1.0, 2.0]), "n": torch.tensor(3), "a": torch.arange(6.0).reshape(2, 3).T}
    data = np.array([1, 2, 0, 3, 1, 4, 2, 5], "<f4").tobytes()
    assert params_sha256(state) == hashlib.sha256(data).hexdigest()


def test_everything_comes_back_bit_for_bit(run: Storage) -> None:
    net, training = trained(3)
    path = saved(run, 3)
    assert path == Path(str(run)) / "checkpoints" / "step-000003"
    loaded = load_checkpoint(path)
    assert (loaded.step, loaded.path, loaded.meta["seed"], loaded.meta["scale"]) == (3, str(path), 7, 0.1)
    assert list(loaded.weights) == list(net.state_dict()) == ["z.weight", "z.bias", "a.weight", "a.bias"]
    assert all(torch.equal(loaded.weights[name], value) for name, value in net.state_dict().items())
    assert params_sha256(loaded.weights) == loaded.meta["params_sha256"] == params_sha256(net.state_dict())
    assert loaded.training["schedule"] == training["schedule"]
    for index, state in training["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(loaded.training["optimizer"]["state"][index][name], value)


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([float("nan"), -0.0, 1e-45, float("inf")]),
        torch.arange(6.0).reshape(2, 3).T,
        torch.zeros(0, 3),
        torch.tensor(5),
        torch.tensor([1.5], dtype=torch.bfloat16),
    ],
)
def test_odd_tensors_come_back(run: Storage, value: torch.Tensor) -> None:
    path = save_checkpoint(run, step=1, weights={"w": value, "tied": value}, training={}, meta={})
    loaded = load_checkpoint(path).weights
    for name in ("w", "tied"):
        assert loaded[name].dtype == value.dtype
        assert loaded[name].shape == value.shape
        assert torch.equal(loaded[name].reshape(-1).view(torch.uint8), value.contiguous().reshape(-1).view(torch.uint8))


def test_a_run_means_its_newest_checkpoint_and_half_ones_do_not_count(run: Storage) -> None:
    saved(run, 1)
    saved(run, 2)
    half = saved(run, 3)
    (half / "meta.json").unlink()
    assert checkpoint_steps(run) == [1, 2]
    assert load_checkpoint(run).step == 2
    assert load_checkpoint(str(run)).step == 2


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_found_and_named(run: Storage, name: str) -> None:
    before, path = saved(run, 1), saved(run, 2)
    whole = (path / name).read_bytes()
    rng = np.random.default_rng(0)
    places = {0, 1, 8, len(whole) // 2, len(whole) - 2, len(whole) - 1, *rng.integers(0, len(whole), 40).tolist()}
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        (path / name).write_bytes(flipped)
        with pytest.raises(CheckpointError, match=f"(damaged|cut short): {re.escape(name)}.*before it: {before}$"):
            load_checkpoint(path)
    (path / name).write_bytes(whole)
    assert load_checkpoint(path).step == 2


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_cut_file_is_found_and_named(run: Storage, name: str, share: float) -> None:
    path = saved(run, 2)
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: int(len(whole) * share)])
    message = f"cut short: {re.escape(name)}.*no sound checkpoint lies before it"
    for place in (path, run):
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(place)


def test_only_a_sound_checkpoint_is_offered(run: Storage) -> None:
    paths = [saved(run, step) for step in (1, 2, 3)]
    for path in paths[1:]:
        (path / "training.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"use the one before it: {paths[0]}$"):
        load_checkpoint(run)


def test_what_is_no_checkpoint(run: Storage, tmp_path: Path) -> None:
    path = saved(run, 5)
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*step-000004: the run has steps 5"):
        load_checkpoint(path.with_name("step-000004"))
    with pytest.raises(CheckpointError, match="nothing has this name"):
        load_checkpoint(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load_checkpoint(tmp_path / "other")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load_checkpoint(path / "training.pt")
    (tmp_path / "other" / "config.toml").write_text("")
    with pytest.raises(CheckpointError, match="no complete checkpoint yet"):
        load_checkpoint(tmp_path / "other")
    (path / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is missing"):
        load_checkpoint(path)


def test_saving_the_same_again_changes_nothing(run: Storage) -> None:
    path = saved(run, 4)
    former = [(path / name).stat().st_mtime_ns for name in FILES]
    assert saved(run, 4) == path
    assert [(path / name).stat().st_mtime_ns for name in FILES] == former


def test_saving_a_step_anew_replaces_it(run: Storage) -> None:
    path = saved(run, 4)
    (path / "training.pt").write_bytes(b"damaged")
    saved(run, 4)
    assert load_checkpoint(path).step == 4
    save_checkpoint(run, step=4, weights={"w": torch.tensor([9.0])}, training={}, meta={})
    assert load_checkpoint(path).weights == {"w": torch.tensor([9.0])}
    assert [entry.name for entry in path.parent.iterdir()] == ["step-000004"]


def test_on_a_file_system_that_is_not_local(tmp_path: Path) -> None:
    tree = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    run = Storage(fs=tree, root="run", uri="test://bucket/run")
    for step in (1, 2, 2):
        saved(run, step)
    assert checkpoint_steps(run) == [1, 2]
    assert load_checkpoint(run).path == "test://bucket/run/checkpoints/step-000002"


class Bomb:
    """Runs code when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_bomb_with_right_hashes_does_not_go_off(run: Storage, tmp_path: Path, zipped: bool) -> None:
    path = saved(run, 1)
    mark = tmp_path / "exploded"
    if zipped:
        torch.save({"optimizer": Bomb(mark)}, path / "training.pt")
    else:
        (path / "training.pt").write_bytes(pickle.dumps({"optimizer": Bomb(mark)}, protocol=2))
    meta = json.loads((path / "meta.json").read_text())
    data = (path / "training.pt").read_bytes()
    meta["files"]["training.pt"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del meta["sha256"]
    canonical = json.dumps(meta, sort_keys=True, separators=(",", ":"))
    meta["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    (path / "meta.json").write_text(json.dumps(meta, sort_keys=True, indent=1) + "\n")
    with pytest.raises(CheckpointError, match=r"not safe: training\.pt"):
        load_checkpoint(path)
    assert not mark.exists()


def test_training_state_that_could_not_be_loaded_is_not_saved(run: Storage, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="plain values"):
        save_checkpoint(run, step=1, weights={}, training={"x": Bomb(tmp_path / "mark")}, meta={})
    assert checkpoint_steps(run) == []


KILLED = """
import os, random, signal, sys, time
import torch
from glr_dist.store.checkpoint import load_checkpoint, params_sha256, save_checkpoint
from glr_dist.store.storage import Storage

def save(run, step, value):
    weights, training = {"w": torch.full((200, 100), float(value))}, {"at": torch.tensor(value)}
    save_checkpoint(run, step=step, weights=weights, training=training, meta={"value": value})

def die_at_sync(count):
    sync = os.fsync
    def fsync(handle):
        fsync.left -= 1
        if fsync.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(handle)
    fsync.left = count
    os.fsync = fsync

torch.set_num_threads(1)
rng = random.Random(0)
leftovers = 0
for attempt in range(14):
    place = f"{sys.argv[1]}/run-{attempt}"
    run = Storage.at(place)
    save(run, 1, 1)
    child = os.fork()
    if child == 0:
        if attempt < 10:  # a new step, then the same step anew, each with five syncs
            die_at_sync(attempt)
        save(run, 2, 2)
        for value in range(3, 10**9):
            save(run, 2, value)
    if attempt >= 10:
        time.sleep(rng.uniform(0.005, 0.05))
        os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left = load_checkpoint(run)
    value = left.meta["value"]
    assert left.step == (1 if value == 1 else 2)
    assert attempt >= 10 or value == (1 if attempt < 4 else 2 if attempt < 9 else 3), (attempt, value)
    assert left.training["at"] == value and (left.weights["w"] == value).all()
    leftovers += any(name.startswith(".tmp-") for name in os.listdir(place + "/checkpoints"))
    save(run, 3, -1)
    assert all(name.startswith("step-") for name in os.listdir(place + "/checkpoints"))
assert leftovers >= 8, leftovers
print("sound")
"""


def test_a_kill_in_the_middle_of_a_save_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.stdout.strip() == "sound", done.stderr
