"""Who does the work changes nothing: the same bits in-process, with any crew, and when workers die or dawdle.

Generators make adversarial rows, and change nothing else.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import kill
from small_runs import CONV, ES, JOINT, STEPS, crews_watched, outcome, small_task, train_small

from glr_dist.core.losses import cross_entropy
from glr_dist.core.parameters import flat_parameters
from glr_dist.engine.callbacks import Progress
from glr_dist.workers.parcels import Lost, Stored
from glr_dist.workers.pool import Call

FGSM = {"augment.attack": "fgsm", "augment.epsilon": 0.2}
SURROGATE = "put the checkpoint's place here"
RUNS: dict[str, dict[str, Any]] = {
    "layerwise": {},
    "joint": JOINT,
    "es": ES,
    "conv-joint-generator": CONV | JOINT | {"noise.source": "generator", "noise.family": "laplace"},
    "uneven": {"estimator.copies": 10, "units.rows": 16},  # 2 blocks; 2, 2 and 1 pairs a site
    "nine": {"batch": 36, "units.rows": 4},  # blocks, in three levels of the tree and one more
    "bp-noise": {"method": "bp-noise", "model.activation": "tanh"},
    "fgsm": FGSM,
    "fgsm-jittered": FGSM | {"augment.jitter": 0.1},
    "pgd-joint": JOINT | {"augment.attack": "pgd", "augment.steps": 3},
    "fgsm-surrogate": FGSM | {"augment.surrogate": SURROGATE},
    "fgsm-bp": FGSM | {"method": "bp", "model.activation": "tanh"},
}
CREWS = [  # run, evaluators, reconstructors, generators; 3 and 0, 2 and 0, 2 and 1, 1 and 1 and 1 are those of tests below
    ("joint", 0, 1, 0),
    ("es", 1, 1, 0),
    ("conv-joint-generator", 1, 1, 0),
    ("uneven", 3, 1, 0),  # more evaluators than blocks: a call per unit
    ("bp-noise", 0, 1, 0),
    ("fgsm", 1, 1, 0),
    ("fgsm", 0, 0, 1),
    ("fgsm-jittered", 1, 0, 2),
    ("pgd-joint", 0, 1, 1),
    ("fgsm-bp", 0, 1, 1),
]
PLACEMENTS = [  # run, workers, generators, who reconstructs
    ("layerwise", 1, 0, "workers"),
    ("layerwise", 2, 0, "auto"),
    ("layerwise", 3, 0, "workers"),  # 4 blocks: shares of 1, 1 and 2
    ("nine", 2, 0, "workers"),  # 9 blocks: shares that are no whole subtree
    ("es", 2, 0, "workers"),
    ("conv-joint-generator", 2, 0, "workers"),
    ("uneven", 3, 0, "workers"),  # more workers than blocks: the driver must
    ("fgsm", 1, 1, "workers"),
]
Keys = Callable[[str], dict[str, Any]]
InProcess = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def keys_of(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """A run's keys, with a surrogate's place where there is one."""
    folder = tmp_path_factory.mktemp("surrogate") / "run"
    train_small(folder, {"method": "bp", "model.activation": "relu"})

    def get(name: str) -> dict[str, Any]:
        return {key: str(folder) if value == SURROGATE else value for key, value in RUNS[name].items()}

    return get


@pytest.fixture(scope="module")
def in_process(keys_of: Keys, tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """The outcome of a run that this process did alone."""

    @cache
    def get(name: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("in-process") / name
        train_small(folder, keys_of(name))
        return outcome(folder)

    return get


def engine(workers: int, reconstructors: int, generators: int = 0, reconstruct: str = "auto") -> dict[str, Any]:
    sizes = {"engine.workers": workers, "engine.reconstructors": reconstructors, "engine.generators": generators}
    return {**sizes, "engine.reconstruct": reconstruct}


@pytest.mark.parametrize("crew", CREWS, ids=str)
def test_every_crew_gives_the_same_bits(
    crew: tuple[str, int, int, int], keys_of: Keys, in_process: InProcess, tmp_path: Path, ray_session: None
) -> None:
    name, *sizes = crew
    result = train_small(tmp_path / "run", keys_of(name) | engine(*sizes))
    assert (result.workers, result.workers_lost) == (sizes[0], 0)
    assert outcome(tmp_path / "run") == in_process(name)


@pytest.mark.parametrize("crew", PLACEMENTS, ids=str)
def test_who_reconstructs_changes_no_bit(
    crew: tuple[str, int, int, str], keys_of: Keys, in_process: InProcess, tmp_path: Path, ray_session: None
) -> None:
    name, workers, generators, reconstruct = crew
    keys = keys_of(name) | engine(workers, 0, generators, reconstruct)
    if reconstruct == "auto":
        keys["steps"] = 40  # enough to try both
    answers: list[Any] = []
    with crews_watched(see=lambda call, answer: answers.append(answer) if call.verb == "step" else None):
        train_small(tmp_path / "run", keys)
    placements = {bool(answer.sums) for answer in answers}
    assert placements == {"auto": {True, False}, "workers": {name != "uneven"}}[reconstruct]
    if reconstruct == "auto":
        train_small(tmp_path / "alone", keys | {"engine.workers": 0})
        assert outcome(tmp_path / "run") == outcome(tmp_path / "alone")
    else:
        assert outcome(tmp_path / "run") == in_process(name)


def test_the_runs_differ_from_each_other(in_process: InProcess) -> None:
    digests = {name: str(in_process(name)["weights"]) for name in RUNS}
    assert len(set(digests.values())) == len(RUNS)  # so equal bits above are no accident of untrained parameters
    initial = flat_parameters(small_task().model).numpy()
    trained = b"".join(tensor[2] for tensor in in_process("layerwise")["weights"].values())
    assert not np.allclose(np.frombuffer(trained, np.float32), initial, atol=1e-3)


@pytest.fixture(scope="module")
def crossing(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run with 3 evaluators, and all that they answered."""
    answers: list[tuple[Any, Any]] = []
    folder = tmp_path_factory.mktemp("crossing") / "run"
    with crews_watched(see=lambda call, answer: answers.append((call.key, answer))):
        result = train_small(folder, engine(3, 0, reconstruct="driver"))
    return {"answers": answers, "result": result, "folder": folder}


def test_three_workers_give_the_same_bits(crossing: dict[str, Any], in_process: InProcess) -> None:
    assert crossing["result"].workers == 3
    assert outcome(crossing["folder"]) == in_process("layerwise")


def test_nothing_but_losses_crosses_the_boundary(crossing: dict[str, Any]) -> None:
    task = small_task()
    losses_per_step = 2 * 8 * 32  # sites x copies x examples
    assert task.plan.losses_per_step == losses_per_step
    units = task.plan.step(0).units
    scalars, pickled = 0, 0
    for positions, answer in crossing["answers"]:
        assert (answer.sums, answer.seen) == ({}, [])
        assert len(answer.losses) == len(positions)
        for position, losses in zip(positions, answer.losses, strict=True):
            assert type(losses) is np.ndarray
            assert losses.dtype == np.float32
            assert losses.shape == (2 * units[position].draws, 8)  # [copies, rows], and not one number more
            scalars += losses.size
        pickled += len(pickle.dumps(answer))
    assert scalars == losses_per_step * STEPS
    assert crossing["result"].bytes_up == 4 * losses_per_step * STEPS
    assert pickled < 2 * crossing["result"].bytes_up  # no more than the arrays' headers beside them


def test_losses_weigh_less_than_gradients_would(tmp_path: Path, ray_session: None) -> None:
    """What a worker of the usual kind sends home, a gradient a block, against what these send."""
    keys = {"model.hidden": [400], "steps": 2, "units.rows": 16, "units.copies": 8, "noise.table_size": 2**17}
    result = train_small(tmp_path / "run", keys | engine(1, 0, reconstruct="driver"))
    parameters = 64 * 400 + 400 + 400 * 10 + 10
    assert result.bytes_up == 2 * 4 * (2 * 8 * 32)
    assert result.bytes_up < 2 * (4 * parameters) / 50
    assert result.bytes_down >= 2 * 4 * parameters


def faulty_loss(flag: Path, fault: Callable[[], None]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Cross-entropy; the first actor to get there suffers ``fault``, at this and each later call."""
    driver = os.getpid()

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        me = os.getpid()
        if me != driver:
            try:
                with flag.open("x") as file:
                    file.write(str(me))
            except FileExistsError:
                pass
            if flag.read_text() == str(me):
                fault()
        return cross_entropy(logits, labels)

    return loss


def unharmed(folder: Path, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> dict[str, Any]:
    """The outcome of a run with that loss in this process, which no fault meets."""
    train_small(folder, loss=loss)
    return outcome(folder)


def test_killed_workers_change_nothing(tmp_path: Path, ray_session: None) -> None:
    """One evaluator dies in the middle of a call, another and a reconstructor between steps."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_some(progress: Progress) -> None:
        if progress.step == 5:
            for pool in crews[0].pools:
                kill(next(member for member in pool.members() if member.ready))

    loss = faulty_loss(tmp_path / "flag", die)
    with crews_watched() as crews:
        result = train_small(tmp_path / "run", engine(2, 1), loss=loss, show=kill_some)
    assert result.workers_lost == 3
    assert result.bytes_up == 4 * (2 * 8 * 32) * STEPS  # each unit's losses counted once
    assert outcome(tmp_path / "run") == unharmed(tmp_path / "unharmed", loss)


def test_workers_killed_while_they_reconstruct_change_nothing(
    in_process: InProcess, tmp_path: Path, ray_session: None
) -> None:
    def kill_one(progress: Progress) -> None:
        if progress.step in (3, 6):
            pool = crews[0].evaluators
            threading.Timer(0.01, kill, [next(member for member in pool.members() if member.ready)]).start()

    with crews_watched() as crews:
        result = train_small(tmp_path / "run", engine(2, 0, reconstruct="workers"), show=kill_one)
    assert result.workers_lost == 2
    assert outcome(tmp_path / "run") == in_process("layerwise")


def test_a_slow_worker_delays_and_changes_nothing(tmp_path: Path, ray_session: None) -> None:
    started = []
    loss = faulty_loss(tmp_path / "flag", lambda: time.sleep(900))
    with crews_watched() as crews:
        result = train_small(
            tmp_path / "run", engine(2, 0), loss=loss, show=lambda progress: started.append(time.monotonic())
        )
    assert started[-1] - started[0] < 250
    assert result.workers_lost == 0
    assert (
        1 <= crews[0].evaluators.counts.retries <= 2
    )  # the calls that it had in hand ran elsewhere, and it got no others
    assert outcome(tmp_path / "run") == unharmed(tmp_path / "unharmed", loss)


def test_rows_whose_maker_died_are_made_where_they_are_needed(
    in_process: InProcess, tmp_path: Path, ray_session: None
) -> None:
    """The generator dies when it has made rows that nobody has fetched yet, and they are gone with it."""
    lost: list[Any] = []

    def kill_its_maker(call: Call, made: Any) -> None:
        if isinstance(made, Stored) and not lost:
            generators = crews[0].generators
            assert generators is not None
            kill(generators.members()[0])
            deadline = time.monotonic() + 60
            while not isinstance(made.fetch(5.0), Lost):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            lost.append(made)

    with crews_watched(see=kill_its_maker) as crews:
        result = train_small(tmp_path / "run", FGSM | engine(1, 1, 1))
    assert len(lost) == result.workers_lost == 1
    assert outcome(tmp_path / "run") == in_process("fgsm")


def test_rows_never_come_to_the_driver(
    keys_of: Keys, in_process: InProcess, tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that generators answer is one reference a block, and only actors follow it."""
    answers: list[Any] = []

    def never(self: Stored, seconds: float | None = None) -> None:
        raise AssertionError("rows in the driver")

    monkeypatch.setattr(Stored, "fetch", never)
    with crews_watched(see=lambda call, answer: answers.append(answer) if call.verb == "made" else None):
        train_small(tmp_path / "run", keys_of("fgsm-surrogate") | engine(1, 1, 1))
    assert outcome(tmp_path / "run") == in_process("fgsm-surrogate")
    assert len(answers) == STEPS * 4
    assert {type(answer) for answer in answers} == {Stored}
