"""Generators change who makes adversarial rows, and nothing else: the same bits without, with, and when they die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import JOINT, STEPS, crews_watched, outcome, small_task, train_small

from glr_dist.core.parameters import flat_parameters
from glr_dist.engine.actors import arrived
from glr_dist.engine.crew import Crew
from glr_dist.engine.driver import Progress
from glr_dist.engine.generation import reference_fault
from glr_dist.workers.pool import RayPool

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
    ("itself", 2, 1, 1),
    ("itself", 0, 0, 1),
    ("jittered", 2, 0, 0),
    ("jittered", 1, 1, 2),
    ("pgd", 1, 1, 1),
    ("surrogate", 1, 0, 1),
    ("surrogate", 2, 1, 1),
    ("bp", 0, 0, 1),
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


def pid_of(pool: RayPool) -> int:
    import ray

    pid: int = ray.get(pool._workers[0].actor.__ray_call__.remote(lambda self: os.getpid()))
    return pid


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


@pytest.mark.parametrize("name", ["itself", "jittered"])
def test_killed_generators_change_nothing(
    name: str, in_process: Callable[[str], dict[str, Any]], tmp_path: Path, ray_session: None
) -> None:
    def kill_one(progress: Progress) -> None:
        if progress.step in (3, 7):
            pool = crews[0].generation.generators
            assert pool is not None
            os.kill(pid_of(pool), signal.SIGKILL)

    with crews_watched() as crews:
        result = train_small(tmp_path / "run", RUNS[name] | engine(1, 1, 1), show=kill_one)
    assert result.workers_lost == 2
    assert outcome(tmp_path / "run") == in_process(name)


def test_rows_whose_maker_died_are_made_where_they_are_needed(ray_session: None, tmp_path: Path) -> None:
    import ray

    task = small_task(FGSM)
    parameters = flat_parameters(task.model).numpy()
    block = task.plan.schedule.blocks(0)[0]
    made: list[Any] = []

    def keep(progress: Progress) -> None:
        generators = crews[0].generation.generators
        if progress.step == 1 and generators is not None:
            actor = generators._workers[0].actor
            made.extend(ray.get(actor.work.remote((block,), parameters)))

    with crews_watched() as crews:
        train_small(tmp_path / "run", FGSM | {"steps": 2} | engine(0, 0, 1), show=keep)
    elsewhere: Any = ray.remote(num_cpus=0)(lambda refs: arrived(refs[0]))
    deadline = time.monotonic() + 60
    while ray.get(elsewhere.remote(made)) is not None:
        assert time.monotonic() < deadline  # the run is over, its generator is gone, and soon what it made
        time.sleep(0.2)


def test_rows_never_come_to_the_driver(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that generators answer is one reference a block."""
    import ray

    answers: list[Any] = []
    settle = RayPool._settle

    def watched(self: RayPool, ref: Any) -> Any:
        answer = settle(self, ref)
        if answer is not None and isinstance(crews[0], Crew) and self is crews[0].generation.generators:
            answers.append(answer[1])
        return answer

    def never(rows: Any) -> None:
        assert rows is None, "rows in the driver"

    monkeypatch.setattr(RayPool, "_settle", watched)
    monkeypatch.setattr("glr_dist.engine.crew.arrived", never)
    with crews_watched() as crews:
        train_small(tmp_path / "run", FGSM | engine(1, 1, 1))
    assert len(answers) == STEPS * 4
    assert all(type(answer) is tuple and len(answer) == 1 for answer in answers)
    assert all(isinstance(answer[0], ray.ObjectRef) for answer in answers)


def test_a_generators_answer_is_one_reference(ray_session: None) -> None:
    import ray

    reference = ray.put(1)
    assert reference_fault((reference,)) is None
    assert reference_fault([1, 2]) == "a list of 2 where a reference to a block's rows belongs"
    assert reference_fault((reference, reference)) == "a tuple where a reference to a block's rows belongs"
