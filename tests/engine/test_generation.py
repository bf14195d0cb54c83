"""Generators change who makes adversarial rows, and nothing else: the same bits without, with, and when they die."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults import kill
from small_runs import JOINT, STEPS, crews_watched, outcome, train_small

from glr_dist.workers.parcels import Lost, Stored
from glr_dist.workers.pool import Call

FGSM = {"augment.attack": "fgsm", "augment.epsilon": 0.2}
SURROGATE = "put the checkpoint's place here"
RUNS: dict[str, dict[str, Any]] = {
    "itself": FGSM,
    "jittered": FGSM | {"augment.jitter": 0.1},
    "pgd": JOINT | {"augment.attack": "pgd", "augment.steps": 3},
    "surrogate": FGSM | {"augment.surrogate": SURROGATE},
    "bp": FGSM | {"method": "bp", "model.activation": "tanh"},
}
CREWS = [  # run, evaluators, reconstructors, generators
    ("itself", 2, 1, 0),
    ("itself", 0, 0, 1),
    ("jittered", 1, 1, 2),
    ("pgd", 2, 0, 1),
    ("surrogate", 1, 1, 1),
    ("bp", 0, 2, 1),
]


@pytest.fixture(scope="module")
def keys_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """A run's keys, with a surrogate's place where there is one."""
    folder = tmp_path_factory.mktemp("surrogate") / "run"
    train_small(folder, {"method": "bp", "model.activation": "relu"})

    def get(name: str) -> dict[str, Any]:
        return {key: str(folder) if value == SURROGATE else value for key, value in RUNS[name].items()}

    return get


@pytest.fixture(scope="module")
def in_process(
    keys_of: Callable[[str], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """The outcome of a run that this process did alone."""
    known: dict[str, dict[str, Any]] = {}

    def get(name: str) -> dict[str, Any]:
        if name not in known:
            folder = tmp_path_factory.mktemp("in-process") / name
            train_small(folder, keys_of(name))
            known[name] = outcome(folder)
        return known[name]

    return get


def engine(workers: int, reconstructors: int, generators: int) -> dict[str, int]:
    return {"engine.workers": workers, "engine.reconstructors": reconstructors, "engine.generators": generators}


@pytest.mark.parametrize(("name", "workers", "reconstructors", "generators"), CREWS)
def test_every_crew_gives_the_same_bits(
    name: str,
    workers: int,
    reconstructors: int,
    generators: int,
    keys_of: Callable[[str], dict[str, Any]],
    in_process: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    ray_session: None,
) -> None:
    result = train_small(tmp_path / "run", keys_of(name) | engine(workers, reconstructors, generators))
    assert (result.workers, result.workers_lost) == (workers, 0)
    assert outcome(tmp_path / "run") == in_process(name)


def test_the_runs_differ_from_each_other_and_from_clean_ones(
    in_process: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    train_small(tmp_path / "clean")
    digests = [str(in_process(name)["weights"]) for name in RUNS] + [str(outcome(tmp_path / "clean")["weights"])]
    assert len(set(digests)) == len(RUNS) + 1


def test_rows_whose_maker_died_are_made_where_they_are_needed(
    in_process: Callable[[str], dict[str, Any]], tmp_path: Path, ray_session: None
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
    assert outcome(tmp_path / "run") == in_process("itself")


def test_rows_never_come_to_the_driver(tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that generators answer is one reference a block, and only actors follow it."""
    answers: list[Any] = []

    def never(self: Stored, seconds: float | None = None) -> None:
        raise AssertionError("rows in the driver")

    monkeypatch.setattr(Stored, "fetch", never)
    with crews_watched(see=lambda call, answer: answers.append(answer) if call.verb == "made" else None):
        train_small(tmp_path / "run", FGSM | engine(1, 1, 1))
    assert len(answers) == STEPS * 4
    assert {type(answer) for answer in answers} == {Stored}
